"""In which precision a model runs on a device, and how many bytes a number takes then."""

from __future__ import annotations

from types import MappingProxyType

from hwdash.core.device import Device, DeviceKind

ITEM_BYTES = MappingProxyType({"fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1})
"""Bytes of one number."""


def choose_dtype(device: Device) -> str:
    """The precision to run a model in: bf16 where the hardware has it, then fp16 on a GPU, else fp32."""
    natively = device.capabilities.dtypes
    if "bf16" in natively:
        return "bf16"
    return "fp16" if device.kind is DeviceKind.GPU and "fp16" in natively else "fp32"


def smaller_dtypes(device: Device) -> tuple[str, ...]:
    """Precisions to load a model in where the one of `choose_dtype` does not fit, best first; may be empty.

    bf16 is emulated by torch where the hardware lacks it: slower, but half as large as fp32.
    """
    return ("bf16",) if choose_dtype(device) == "fp32" else ()
