"""Which devices a build of torch has code for."""

from __future__ import annotations

import pytest

from hwdash.engine.worker.kernel import has_kernels, no_kernels_text, tells_of_missing_kernels


@pytest.mark.parametrize(
    ("built_for", "capability", "expected"),
    [
        (["sm_80", "sm_90"], (9, 0), True),
        (["sm_80"], (8, 6), True),
        (["sm_86"], (8, 0), False),
        (["sm_80"], (9, 0), False),
        (["sm_80", "compute_80"], (9, 0), True),
        (["compute_90"], (8, 9), False),
        (["compute_75"], (12, 0), True),
        (["sm_100"], (10, 3), True),
        (["sm_120"], (10, 0), False),
        (["sm_90a"], (9, 0), True),
        (["sm_100a"], (10, 3), False),
        (["sm_100f"], (10, 3), True),
        (["compute_90a"], (10, 0), False),
        (["compute_100f"], (12, 0), False),
        ([], (9, 0), True),
        (["gfx942", "sm_", "x"], (9, 0), True),
    ],
)
def test_what_runs_where(built_for: list[str], capability: tuple[int, int], expected: bool) -> None:
    assert has_kernels(built_for, capability) is expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might be", True),
        ("CUDA error: invalid device function", True),
        ("HIP error: invalid device function", True),
        ("hipErrorNoBinaryForGpu: Unable to find code object for all current devices!", True),
        ("NVIDIA X with CUDA capability sm_120 is not compatible with the current PyTorch installation.", True),
        ("Torch not compiled with CUDA enabled", True),
        ("CUDA out of memory. Tried to allocate 20.00 MiB", False),
        ("CUDA error: an illegal memory access was encountered", False),
        ("", False),
    ],
)
def test_how_torch_says_so(words: str, expected: bool) -> None:
    assert tells_of_missing_kernels(RuntimeError(words)) is expected


def test_the_sentence() -> None:
    assert no_kernels_text("2.13.0+cu130", "sm_70", ["sm_75", "sm_80"]) == (
        "this torch build (2.13.0+cu130) has no kernels for sm_70, only for sm_75 sm_80; install a torch built for it"
    )
    assert "has no kernels for this device; install" in no_kernels_text("2.13.0+cpu", "")
