"""Whether this build of torch has code for a device, and how torch says that it has none."""

from __future__ import annotations

import re
from collections.abc import Iterable

_BUILT_FOR = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)", re.ASCII)
_MISSING = re.compile(
    r"no kernel image is available|invalid device function|device kernel image is invalid"
    r"|is not compatible with the current PyTorch|not compiled with (?:CUDA|ROCm|HIP|XPU)|Torch not compiled"
    r"|hipErrorNoBinaryForGpu|NoBinaryForGpu|PTX was compiled with an unsupported toolchain",
    re.IGNORECASE,
)


def has_kernels(built_for: Iterable[str], capability: tuple[int, int]) -> bool:
    """Whether a CUDA device of compute *capability* runs code that was *built_for* these, as torch lists them.

    Binary code (``sm_80``) runs on the same major version with the same or a higher minor one; PTX (``compute_80``) is
    compiled at run time for any later device. Code with the suffix ``a`` runs on that very device only, with ``f`` on
    its family (CUDA C++ programming guide, "Application Compatibility" and "Feature Set Compiler Targets"). True for
    a list in which nothing is understood: then only trying tells.
    """
    known = [match for name in built_for if (match := _BUILT_FOR.fullmatch(name)) is not None]
    return not known or any(_runs(match, capability) for match in known)


def tells_of_missing_kernels(error: BaseException) -> bool:
    """Whether *error* says that this build of torch cannot compute on the device, now or ever."""
    return _MISSING.search(str(error)) is not None


def no_kernels_text(version: str, architecture: str, built_for: Iterable[str] = ()) -> str:
    """The sentence for a torch *version* without code for *architecture* (``sm_90``; empty: not known)."""
    has = f", only for {' '.join(built_for)}" if built_for else ""
    return (
        f"this torch build ({version}) has no kernels for {architecture or 'this device'}{has}; "
        "install a torch built for it"
    )


def _runs(match: re.Match[str], capability: tuple[int, int]) -> bool:
    kind, suffix = match[1], match[4]
    target = int(match[2]), int(match[3])
    if suffix == "a":
        return capability == target
    if kind == "compute" and not suffix:
        return capability >= target
    return capability[0] == target[0] and capability[1] >= target[1]
