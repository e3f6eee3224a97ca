"""How a worker computes on a device: what torch calls it, in which precision, and what hides all other devices."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from hwdash.core.device import Device, DeviceKind
from hwdash.core.errors import EngineError
from hwdash.core.precision import choose_dtype, holds_int8, smaller_dtypes

# libgomp's threads spin for milliseconds at each barrier, of which a token has hundreds. Whenever anything else runs,
# that waits for a thread that has no core: on two busy cores tokens came at half the speed. Brief spinning costs nothing.
_PATIENT = {} if "OMP_WAIT_POLICY" in os.environ else {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "3000")}


@dataclass(frozen=True, slots=True)
class Placement:
    """What a worker needs to know of its device.

    In a process with *environment* the device is the only accelerator there is, and torch calls it *torch_device*.
    *threads* None: as many as the process may use; it has one for each core at most. *module* is what must be imported for torch to know the device.
    *smaller* are the precisions to fall back to where *dtype* does not fit, *architecture* is what code for the device
    is built for, as its maker's compiler names it (``sm_90``, ``gfx942``); empty where it does not tell.
    *quantize*: weights may be held in 8 bits, which is faster here as far as is known. *ranks* is over how many devices
    the model is spread: *torch_device* is then the first of so many that the process sees.
    """

    torch_device: str
    dtype: str
    environment: Mapping[str, str]
    threads: int | None = None
    module: str | None = None
    smaller: tuple[str, ...] = ()
    architecture: str = ""
    quantize: bool = False
    ranks: int = 1


def placement_of(device: Device, *, quantize: bool = False) -> Placement:
    """The placement on *device*, which is pinned by its identity, never by an index, or as its chip profile says.

    *quantize* allows weights in 8 bits where they are faster.
    Raises `EngineError` for a device that the embedded engine cannot drive.
    """
    dtype, smaller = choose_dtype(device, quantize=quantize), smaller_dtypes(device)
    runtime = device.runtime
    if runtime is not None and runtime.torch_device is not None:
        pinned = {}
        if runtime.visible_variable is not None and device.visible_as is not None:
            pinned = {runtime.visible_variable: device.visible_as}
        return Placement(runtime.torch_device, dtype, pinned, module=runtime.module, smaller=smaller)
    if device.kind is DeviceKind.CPU:
        units = device.capabilities.compute_units
        hidden = {**_PATIENT, "CUDA_VISIBLE_DEVICES": ""}
        eight = quantize and holds_int8(device)
        return Placement("cpu", dtype, hidden, units, smaller=smaller, quantize=eight)
    if (only := _pinned(device)) is None:
        raise EngineError(f"{device.id} ({device.name}) cannot run models in this version; choose another device")
    ranks = max(1, len(device.members))
    return Placement("cuda:0", dtype, only, smaller=smaller, architecture=_architecture(device), ranks=ranks)


def early_environment() -> dict[str, str]:
    """What a process that may compute on a CPU needs from its start: its libraries read it when they are loaded."""
    return dict(_PATIENT)


def _pinned(device: Device) -> Mapping[str, str] | None:
    """What leaves a process this one GPU, or those of this group; None for a device that torch does not call ``cuda``, or that has no identity."""
    if device.kind is not DeviceKind.GPU or not device.visible_as:
        return None
    match device.vendor.upper():
        case "NVIDIA":
            return {"CUDA_VISIBLE_DEVICES": device.visible_as}
        case "AMD":
            return _rocm(device.visible_as, max(1, len(device.members)))
        case _:
            return None


def _architecture(device: Device) -> str:
    told = device.capabilities.compute_capability or ""
    return f"sm_{told.replace('.', '')}" if re.fullmatch(r"\d+\.\d", told) else told


def _rocm(visible_as: str, count: int) -> dict[str, str]:
    """What leaves ROCm this one GPU, or these *count* (its documentation "GPU isolation techniques").

    The runtime below HIP picks by identity; HIP then numbers what is left, of which it gets all there are, whatever
    the user's own settings say. A torch built for CUDA finds nothing, rather than somebody else's GPU as ``cuda:0``.
    """
    left = ",".join(map(str, range(count)))
    return {"ROCR_VISIBLE_DEVICES": visible_as, "HIP_VISIBLE_DEVICES": left, "CUDA_VISIBLE_DEVICES": ""}
