"""Several like GPUs of one machine that hold one model together, each a part of it: named ``gpu0+gpu1``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING

from hwdash.core.device import Device, DeviceKind
from hwdash.core.errors import UsageError
from hwdash.core.order import natural_key
from hwdash.core.reading import Absent, Reading, is_present, present
from hwdash.core.sample import Sample
from hwdash.core.throttle import ThrottleActivity, ThrottleReason

if TYPE_CHECKING:
    from hwdash.core.device import MemoryPool
    from hwdash.core.snapshot import DeviceStatus

JOINT = "+"
"""Stands between the names of a group's devices."""
MOST = 8
"""So many GPUs at most make one group: as many as one machine's fast links join."""
_SUMS = frozenset({"power_w", "energy_j", "memory_used_bytes", "memory_total_bytes"})
_LEAST = frozenset({"clock_hz", "memory_clock_hz", "temperature_margin_c"})


def group_names(name: str) -> tuple[str, ...]:
    """The names that *name* joins by ``+``; empty where it joins none."""
    return tuple(name.split(JOINT)) if JOINT in name else ()


def id_of(ids: Mapping[str, str], key: str) -> str:
    """Today's short id of the device or group *key*, of the *ids* by key; the key itself where there is none."""
    if (found := ids.get(key)) is not None:
        return found
    members = [ids[part] for part in group_names(key) if part in ids]
    return JOINT.join(sorted(members, key=natural_key)) if members and len(members) == len(group_names(key)) else key


@lru_cache(maxsize=64)
def group_device(devices: tuple[Device, ...]) -> Device:
    """*devices* as one, whose ``members`` they are in the order of their ids, whatever order they come in.

    Its key does not depend on that order, and is none of theirs: what is learnt of a group says nothing of one device.
    Raises `UsageError` for what cannot be a group.
    """
    members = tuple(sorted(devices, key=lambda device: natural_key(device.id)))
    name = JOINT.join(device.id for device in members)
    _check(name, members)
    first, limits = members[0], [device.limits for device in members]
    whole = replace(
        first.limits,
        power_w=_all(sum, [item.power_w for item in limits]),
        temperature_slowdown_c=_all(min, [item.temperature_slowdown_c for item in limits]),
        temperature_shutdown_c=_all(min, [item.temperature_shutdown_c for item in limits]),
        clock_hz=_all(min, [item.clock_hz for item in limits]),
        memory_bandwidth_bytes_per_s=_all(sum, [item.memory_bandwidth_bytes_per_s for item in limits]),
    )
    return replace(
        first,
        key=JOINT.join(sorted(device.key for device in members)),
        id=name,
        name=f"{len(members)} x {first.name}",
        limits=whole,
        visible_as=",".join(device.visible_as or "" for device in members),
        pci=None,
        members=members,
    )


def group_status(statuses: Sequence[DeviceStatus]) -> DeviceStatus:
    """*statuses* as that of one group: the worst health, the hottest temperature, the lowest clock, the sum of the watts.

    Its memory is what is free on the fullest of them, so many times: each takes an equal part of a model. Raises
    `UsageError` for devices that cannot be a group.
    """
    device = group_device(tuple(status.device for status in statuses))
    times = [status.sampled_at for status in statuses]
    worst = max(statuses, key=lambda status: status.health.state.severity)
    pools = [status.largest_pool for status in statuses]
    return replace(
        worst,
        device=device,
        readings=_readings([status.readings for status in statuses]),
        pools=_pools(pools),
        throttle=_throttle(chain.from_iterable(status.throttle for status in statuses)),
        sampled_at=None if None in times else min(time for time in times if time is not None),
        age_s=_all(max, [status.age_s for status in statuses]),
        last_request=None,
        processes=None,
        faults=tuple(chain.from_iterable(status.faults for status in statuses)),
        clock_is_set=any(status.clock_is_set for status in statuses),
    )


def group_sample(key: str, samples: Sequence[Sample]) -> Sample:
    """*samples* of all devices of the group *key* as one, as old as the oldest of them."""
    flags = [sample.throttle_flags for sample in samples]
    seconds: dict[ThrottleReason, float] = {}
    for sample in samples:
        for reason, value in sample.throttle_seconds.items():
            seconds[reason] = seconds.get(reason, 0.0) + value
    return Sample(
        key,
        min(sample.monotonic_s for sample in samples),
        min(sample.taken_at for sample in samples),
        _readings([sample.readings for sample in samples]),
        throttle_flags=None if None in flags else frozenset().union(*(item or () for item in flags)),
        throttle_seconds=seconds,
        clock_is_set=any(sample.clock_is_set for sample in samples),
    )


def can_join(device: Device) -> bool:
    """Whether *device* makes a group with others like it."""
    return not _unfit(device, device)


def _check(name: str, members: Sequence[Device]) -> None:
    first = members[0]
    if len({device.key for device in members}) < len(members):
        raise UsageError(f"device: {name} names a device twice; name each of a group once", param="device")
    if not 2 <= len(members) <= MOST:
        raise UsageError(f"device: {name} joins {len(members)} devices; a group has 2 to {MOST}", param="device")
    for device in members:
        if (reason := _unfit(device, first)) != "":
            raise UsageError(
                f"device: {name} cannot hold a model together: {device.id} {reason}; join GPUs of one kind, or name "
                "one device",
                param="device",
            )


def _unfit(device: Device, first: Device) -> str:
    """Why *device* cannot be in a group with *first*; empty where it can."""
    if device.kind is not DeviceKind.GPU:
        return f"is of kind {device.kind.value}, not a GPU"
    if device.parent is not None:
        return "is a part of a GPU (a MIG instance)"
    if not device.capabilities.inference or device.runtime is not None or not device.visible_as:
        return "is not driven by hwdash's own workers"
    if device.name != first.name or device.vendor != first.vendor:
        return f"is a {device.name}, and {first.id} a {first.name}"
    if device.driver != first.driver:
        return f"has the driver {device.driver}, and {first.id} has {first.driver}"
    return ""


def _all(combine: Callable[[list[float]], float], values: Sequence[float | None]) -> float | None:
    """*values* combined; None where one of them is not known."""
    known = [value for value in values if value is not None]
    return combine(known) if len(known) == len(values) else None


def _readings(each: Sequence[Mapping[str, Reading]]) -> dict[str, Reading]:
    """One reading for each metric that all have: the sum or the worst; absent where one is."""
    found: dict[str, Reading] = {}
    for metric in each[0]:
        readings = [item.get(metric, Absent.NOT_SUPPORTED) for item in each]
        numbers = [number for reading in readings if (number := present(reading)) is not None]
        if len(numbers) < len(readings):
            found[metric] = next(reading for reading in readings if not is_present(reading))
        else:
            combine = sum if metric in _SUMS else min if metric in _LEAST else max
            found[metric] = combine(numbers)
    return found


def _pools(pools: Sequence[MemoryPool | None]) -> tuple[MemoryPool, ...]:
    known = [pool for pool in pools if pool is not None]
    if len(known) < len(pools):
        return ()
    count = len(known)
    total, free = min(pool.total_bytes for pool in known), min(pool.free_bytes for pool in known)
    used = max(pool.used_bytes for pool in known)
    return (replace(known[0], total_bytes=count * total, used_bytes=count * used, free_bytes=count * free),)


def _throttle(activities: Iterable[ThrottleActivity]) -> tuple[ThrottleActivity, ...]:
    """One for each reason: active where it is on any device, with the largest duty."""
    found: dict[ThrottleReason, ThrottleActivity] = {}
    for activity in activities:
        before = found.get(activity.reason)
        if before is None or (activity.active, activity.duty or 0.0) > (before.active, before.duty or 0.0):
            found[activity.reason] = activity
    return tuple(sorted(found.values(), key=lambda item: (not item.active, -(item.duty or 0.0))))
