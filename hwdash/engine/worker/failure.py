"""An exception of torch or its kin, in words for the user."""

from __future__ import annotations

import gc
import re

import torch

from hwdash.core.errors import DeviceFull, EngineError, HwdashError
from hwdash.core.format import bytes_text
from hwdash.core.text import sanitise_line
from hwdash.engine.message import Failed
from hwdash.engine.worker.loading import available_bytes

_WANTED = re.compile(r"allocate ([\d.]+ [KMGT]?i?B|\d+ bytes)")


def failure_of(error: Exception, device: torch.device | None, request: int | None) -> Failed:
    """What to tell of *error*; an error of ours keeps its kind, want of memory becomes `DeviceFull` with numbers."""
    if isinstance(error, HwdashError):
        kind = error
    elif _is_out_of_memory(error):
        kind = DeviceFull(_out_of_memory(error, device))
    else:
        kind = EngineError(f"the model failed: {sanitise_line(str(error)) or type(error).__name__}")
    return Failed(kind.code, kind.message, request, kind.param)


def is_beyond_repair(error: Exception) -> bool:
    """True for errors after which a CUDA context answers nothing but the same error."""
    accelerator = getattr(torch, "AcceleratorError", ())
    return not _is_out_of_memory(error) and (isinstance(error, accelerator) or "CUDA error" in str(error))


def release_memory() -> None:
    """Give back what a failed request left on the device."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def _out_of_memory(error: Exception, device: torch.device | None) -> str:
    wanted = _WANTED.search(str(error))
    free = available_bytes(device) if device is not None else None
    numbers = [f"{wanted[1]} more were needed"] if wanted else []
    numbers += [f"{bytes_text(free)} are free"] if free is not None else []
    told = f" ({', '.join(numbers)})" if numbers else ""
    return f"the device is out of memory{told}; use a shorter prompt, a smaller model or another device"
