"""An exception of torch or its kin, in words for the user."""

from __future__ import annotations

import torch

from hwdash.core.errors import DeviceFull, EngineError, HwdashError, NoKernels
from hwdash.core.text import sanitise_line
from hwdash.engine.message import Failed
from hwdash.engine.worker.kernel import no_kernels_text, tells_of_missing_kernels
from hwdash.engine.worker.memory import is_out_of_memory, out_of_memory_text


def failure_of(error: Exception, device: torch.device | None, request: int | None, architecture: str = "") -> Failed:
    """What to tell of *error*; an error of ours keeps its kind, want of memory becomes `DeviceFull` with numbers.

    Missing code for the device becomes `NoKernels`; *architecture* is that of the device where it is known, ``sm_90``.
    """
    if isinstance(error, HwdashError):
        kind = error
    elif is_out_of_memory(error):
        kind = DeviceFull(out_of_memory_text(error, device))
    elif tells_of_missing_kernels(error):
        kind = NoKernels(no_kernels_text(torch.__version__, architecture or _architecture(device)))
    else:
        kind = EngineError(f"the model failed: {sanitise_line(str(error)) or type(error).__name__}")
    return Failed(kind.code, kind.message, request, kind.param)


def is_beyond_repair(error: Exception) -> bool:
    """True for errors after which a CUDA context answers nothing but the same error."""
    accelerator = getattr(torch, "AcceleratorError", ())
    return not is_out_of_memory(error) and (isinstance(error, accelerator) or "CUDA error" in str(error))


def _architecture(device: torch.device | None) -> str:
    """What a CUDA device calls itself; empty where it cannot be asked."""
    if device is None or device.type != "cuda" or torch.version.cuda is None:
        return ""
    try:
        return "sm_{}{}".format(*torch.cuda.get_device_capability(device))
    except (RuntimeError, AssertionError):
        return ""
