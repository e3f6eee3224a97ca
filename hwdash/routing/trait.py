"""What a ranking reads of a device's fixed facts, worked out once for each device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from hwdash.core.device import Device, DeviceKind
from hwdash.core.order import natural_key
from hwdash.core.precision import choose_dtype, smaller_dtypes

ASSUMED_BANDWIDTH = {DeviceKind.CPU: 20e9, DeviceKind.GPU: 400e9}
"""Bytes per second that are assumed where a device does not tell: what two channels of DDR4 give a few cores, and a
GPU of the middle class."""
ASSUMED_CHIP_BANDWIDTH = 100e9
"""The same for other chips: most are fed by LPDDR5."""
_REMEMBERED = 4096
_CLASSES = {DeviceKind.GPU: 1, DeviceKind.CPU: 2}


@dataclass(frozen=True, slots=True)
class Build:
    """What decides how a device is expected to do; devices of the same make share one.

    ``dtypes`` are the precisions to load a model in, best first. ``bandwidth`` is in bytes per second, ``assumed``
    where the device does not tell it; ``power_w`` is its power limit, None where it has none. ``devices`` is of how many a
    group consists: all of them together have these figures.
    """

    host: bool
    dtypes: tuple[str, ...]
    bandwidth: float
    assumed: bool
    power_w: float | None
    devices: int = 1


SpeedParts: TypeAlias = tuple[float, float, float, float]
"""The parts ``latency``, ``throughput`` and ``energy`` of a score, and the share of it that the device keeps."""
Steady: TypeAlias = tuple[object, object, tuple[object, ...], SpeedParts]


@dataclass(slots=True)
class Trait:
    """The device, what it is like, and its ``place`` among equals: custom chips, GPUs, CPUs, each by their number.

    ``steady`` is what `hwdash.routing.score` found last: the parts that follow from speed, after what they follow from.
    """

    device: Device
    build: Build
    place: str
    inference: bool
    steady: Steady | None = None


_builds: dict[Build, Build] = {}
_traits: dict[int, Trait] = {}


def trait_of(device: Device) -> Trait:
    """The trait of *device*. Remembered by the object: a monitor keeps the same one from tick to tick."""
    found = _traits.get(id(device))
    if found is not None and found.device is device:
        return found
    if len(_traits) >= _REMEMBERED:
        _traits.clear()
        _builds.clear()
    limits = device.limits
    bandwidth = limits.memory_bandwidth_bytes_per_s
    devices = max(1, len(device.members))
    # Each device of a group would decide by its own memory whether to fall back: a group does not.
    smaller = () if device.members else smaller_dtypes(device)
    build = Build(
        device.kind is DeviceKind.CPU,
        (choose_dtype(device), *smaller),
        bandwidth or ASSUMED_BANDWIDTH.get(device.kind, ASSUMED_CHIP_BANDWIDTH) * devices,
        not bandwidth,
        limits.power_w,
        devices,
    )
    # One string compares faster than the key itself; the id at its end tells gpu1 from gpu01.
    pieces = (f"{number:020}" if not is_word else word for is_word, number, word in natural_key(device.id))
    place = f"{_CLASSES.get(device.kind, 0)}{''.join(pieces)} {device.id}"
    found = Trait(device, _builds.setdefault(build, build), place, device.capabilities.inference)
    _traits[id(device)] = found
    return found
