"""In which precision a model runs on a device, and how many bytes a number takes then."""

from __future__ import annotations

from types import MappingProxyType

from hwdash.core.device import Device, DeviceKind
from hwdash.core.trial import DeviceTrial, DtypeTrial

ITEM_BYTES = MappingProxyType({"fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1})
"""Bytes of one number."""


def choose_dtype(device: Device, trial: DeviceTrial | None = None, *, quantize: bool = False) -> str:
    """The precision to run a model in: bf16 where the hardware has it, then fp16 on a GPU, else fp32.

    One that *trial* found emulated is not chosen. With *quantize* a CPU computes in fp32 where weights in 8 bits, which
    need it, came out faster than bf16; see `holds_int8`.
    """
    natively = [dtype for dtype in device.capabilities.dtypes if not _is_emulated(dtype, trial)]
    if "bf16" in natively:
        return "fp32" if quantize and device.kind is DeviceKind.CPU and _beats("int8", "bf16", trial) else "bf16"
    return "fp16" if device.kind is DeviceKind.GPU and "fp16" in natively else "fp32"


def holds_int8(device: Device, trial: DeviceTrial | None = None) -> bool:
    """Whether weights in 8 bits are worth it: on a CPU that computes in fp32, unless *trial* found them no faster."""
    if device.kind is not DeviceKind.CPU or choose_dtype(device, trial, quantize=True) != "fp32":
        return False
    known = _of("int8", trial)
    return known is None or known.weights_per_s is None or _beats("int8", "fp32", trial)


def smaller_dtypes(device: Device, trial: DeviceTrial | None = None) -> tuple[str, ...]:
    """Precisions to load a model in where the one of `choose_dtype` does not fit, best first; may be empty.

    bf16 is emulated by torch where the hardware lacks it: slower, but half as large as fp32.
    """
    return ("bf16",) if choose_dtype(device, trial) == "fp32" else ()


def _of(dtype: str, trial: DeviceTrial | None) -> DtypeTrial | None:
    return next((found for found in trial.dtypes if found.dtype == dtype), None) if trial is not None else None


def _is_emulated(dtype: str, trial: DeviceTrial | None) -> bool:
    found = _of(dtype, trial)
    return found is not None and found.emulated


def _beats(dtype: str, other: str, trial: DeviceTrial | None) -> bool:
    mine, theirs = _of(dtype, trial), _of(other, trial)
    if mine is None or theirs is None or mine.weights_per_s is None or theirs.weights_per_s is None:
        return False
    return mine.weights_per_s > theirs.weights_per_s
