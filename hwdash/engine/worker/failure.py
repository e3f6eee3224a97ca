"""An exception of torch or its kin, in words for the user."""

from __future__ import annotations

import re

import torch

from hwdash.core.errors import DeviceFull, EngineError, HwdashError, NoKernels
from hwdash.core.text import sanitise_line
from hwdash.engine.message import Failed
from hwdash.engine.worker.decoder import BeyondRepair
from hwdash.engine.worker.kernel import no_kernels_text, tells_of_missing_kernels
from hwdash.engine.worker.memory import is_out_of_memory, out_of_memory_text

_FAULT = re.compile(
    r"(?:CUDA|HIP|ROCm|XPU|SYCL|NPU|HPU|MPS|XLA|Level.?Zero|cuDNN|cuBLAS|rocBLAS|MIOpen) (?:driver |runtime |function )?error"
    r"|(?:CUBLAS|CUDNN|CUSOLVER|HIPBLAS|ROCBLAS|MIOPEN|HSA|ACL|ZE)_(?:STATUS|ERROR|RESULT)_|uncorrectable|illegal memory access",
    re.IGNORECASE,
)
"""How torch and the libraries of vendors begin when the device, its driver or its libraries fail."""


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
    """True for `BeyondRepair`, and for errors after which a CUDA context answers nothing but the same error."""
    if isinstance(error, BeyondRepair):
        return True
    accelerator = getattr(torch, "AcceleratorError", ())
    told = isinstance(error, accelerator) or any(words in str(error) for words in ("CUDA error", "HIP error"))
    return told and not is_out_of_memory(error)


def is_fault_of_device(error: BaseException, device: torch.device) -> bool:
    """Whether *error*, raised while *device* was used, is the device's (or its driver's) and not the model's.

    An accelerator that says nothing of itself is tried: libraries wrap its errors in their own.
    """
    told: BaseException | None = error
    while told is not None:
        if isinstance(told, getattr(torch, "AcceleratorError", ())) or _FAULT.search(str(told)):
            return True
        told = told.__cause__
    if device.type in {"cpu", "meta"}:
        return False
    try:
        return int(torch.ones(2, device=device).sum().item()) != 2
    except Exception as fault:  # noqa: BLE001 - whatever it raises, it does not add two numbers
        return not is_out_of_memory(fault)


def _architecture(device: torch.device | None) -> str:
    """What a CUDA device calls itself; empty where it cannot be asked."""
    if device is None or device.type != "cuda" or torch.version.cuda is None:
        return ""
    try:
        return "sm_{}{}".format(*torch.cuda.get_device_capability(device))
    except (RuntimeError, AssertionError):
        return ""
