"""Models that fit no single GPU, but several like ones together. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hwdash.core.group import MOST, can_join, group_device, group_status
from hwdash.core.snapshot import DeviceStatus
from hwdash.routing.estimate import Case, free_bytes
from hwdash.routing.requirement import unmet
from hwdash.routing.trait import trait_of

_COUNTS = tuple(2**power for power in range(1, MOST.bit_length()))
"""Heads and feeds of models divide by powers of two."""


def together(case: Case, statuses: Sequence[DeviceStatus]) -> dict[str, str]:
    """By the id of each GPU of *statuses* whose memory alone is too small for the model: what it fits together with.

    Nothing where the model fits one of its like. Of several groups with room, that of the fewest devices is offered, with
    the most free memory on each.
    """
    if case.knowledge.shape is None:
        return {}
    found: dict[str, str] = {}
    for alike in _alike(statuses):
        if any(_fits(case, [status]) for status in alike):
            continue
        able = [status for status in alike if _able(case, status)]
        able.sort(key=lambda status: -(free_bytes(status) or 0))
        for count in _COUNTS:
            if count <= len(able) and _fits(case, able[:count]):
                name = group_device(tuple(status.device for status in able[:count])).id
                words = f"fits {name} together: name them with --device {name}"
                found |= {status.device.id: words for status in able}
                break
    return found


def _alike(statuses: Sequence[DeviceStatus]) -> Iterator[list[DeviceStatus]]:
    """The GPUs of *statuses* that could be a group, with their like: two at least."""
    sets: dict[tuple[str, str, str | None], list[DeviceStatus]] = {}
    for status in statuses:
        device = status.device
        if can_join(device):
            sets.setdefault((device.vendor, device.name, device.driver), []).append(status)
    return (alike for alike in sets.values() if len(alike) > 1)


def _able(case: Case, status: DeviceStatus) -> bool:
    """Nothing but the model's size speaks against the device, whose free memory is known."""
    circumstance = case.knowledge.of(status.device.key)
    small = replace(case.knowledge, shape=None)
    asked = replace(case.requirements, max_latency_s=None)
    return circumstance.server is None and free_bytes(status) is not None and not unmet(status, asked, small)


def _fits(case: Case, statuses: Sequence[DeviceStatus]) -> bool:
    """The model has room on the device of *statuses*, or on all of them together."""
    status = statuses[0] if len(statuses) == 1 else group_status(statuses)
    trait, free = trait_of(status.device), free_bytes(status)
    need = case.need(free, trait, case.knowledge.of(status.device.key))
    return need is None or free is None or need.total_bytes <= free
