"""In which precision a model runs on a device, and how many bytes a number takes then."""

from __future__ import annotations

from types import MappingProxyType

from hwdash.core.device import Device, DeviceKind
from hwdash.core.trial import DtypeSpeed

ITEM_BYTES = MappingProxyType({"fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1})
"""Bytes of one number."""
_LOADED_IN = frozenset({"bf16", "fp16", "fp32"})


def choose_dtype(device: Device, *, quantize: bool = False) -> str:
    """The precision to run a model in: bf16 where the hardware has it, then fp16 on a GPU, else fp32.

    One that was tried and found emulated is not chosen. With *quantize* a CPU computes in fp32 where weights in 8 bits,
    which need it, came out faster than bf16; see `holds_int8`.
    """
    natively = [dtype for dtype in device.capabilities.dtypes if not _is_emulated(dtype, device)]
    if "bf16" in natively:
        return "fp32" if quantize and device.kind is DeviceKind.CPU and _beats("int8", "bf16", device) else "bf16"
    return "fp16" if device.kind is DeviceKind.GPU and "fp16" in natively else "fp32"


def holds_int8(device: Device) -> bool:
    """Whether weights in 8 bits are worth it: on a CPU that computes in fp32, unless they were tried and no faster."""
    if device.kind is not DeviceKind.CPU or choose_dtype(device, quantize=True) != "fp32":
        return False
    return _of("int8", device) is None or _beats("int8", "fp32", device)


def smaller_dtypes(device: Device) -> tuple[str, ...]:
    """Precisions to load a model in where the one of `choose_dtype` does not fit, best first; may be empty.

    bf16 is emulated by torch where the hardware lacks it: slower, but half as large as fp32.
    """
    return ("bf16",) if choose_dtype(device) == "fp32" else ()


def loadable_dtypes(device: Device) -> tuple[str, ...]:
    """All precisions that models are loaded in on *device*, the one of `choose_dtype` first.

    ``int8`` is that of weights in 8 bits, which every CPU is taken to have until its precisions were tried.
    """
    able = device.capabilities
    claimed = [dtype for dtype in able.dtypes if dtype in _LOADED_IN]
    eight = device.kind is DeviceKind.CPU and not (able.tried and _of("int8", device) is None)
    names = [choose_dtype(device), *smaller_dtypes(device), *claimed, "fp32", *(["int8"] if eight else [])]
    return tuple(dict.fromkeys(names))


def _of(dtype: str, device: Device) -> DtypeSpeed | None:
    return next((found for found in device.capabilities.tried if found.dtype == dtype), None)


def _is_emulated(dtype: str, device: Device) -> bool:
    found = _of(dtype, device)
    return found is not None and found.emulated


def _beats(dtype: str, other: str, device: Device) -> bool:
    mine, theirs = _of(dtype, device), _of(other, device)
    return mine is not None and theirs is not None and mine.relative > theirs.relative
