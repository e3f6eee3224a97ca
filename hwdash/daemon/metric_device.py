"""Devices, sources and queues of a snapshot as samples for Prometheus."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence

from hwdash import __version__
from hwdash.core.health import HealthState
from hwdash.core.metric import is_possible
from hwdash.core.ranking import Ranking
from hwdash.core.reading import is_present
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.core.status import AdmissionStatus, BreakerState
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.daemon import metric_family as families
from hwdash.daemon.metric_page import Page

_DOWN = frozenset({HealthState.STALE, HealthState.LOST})
_BY_POOL = frozenset({"memory_used_bytes", "memory_total_bytes"})


def fill_build(page: Page) -> None:
    """The version of hwdash."""
    page.add(families.BUILD, (__version__, platform.python_version()), 1)


def fill_devices(page: Page, snapshot: Snapshot) -> None:
    """All devices and sources. Of a device that is stale or lost only what it is and how it is: it has no numbers."""
    for source in snapshot.sources:
        page.add(families.SOURCE_UP, (source.name,), 0 if source.problem else 1)
        page.add(families.POLL, (source.name,), source.poll_s)
    for status in snapshot.devices:
        _fill_identity(page, status)
        if status.health.state not in _DOWN:
            _fill_limits(page, status)
            _fill_readings(page, status)
            _fill_throttle(page, status.device.key, status.throttle)


def fill_scores(page: Page, snapshot: Snapshot, rankings: Sequence[Ranking]) -> None:
    """The scores of the devices that a policy ranks; one that it excludes has none."""
    keys = _keys(snapshot)
    for ranking in rankings:
        for item in ranking.ranked:
            if (key := keys.get(item.device)) is not None:
                page.add(families.SCORE, (key, ranking.policy), item.score)


def fill_queues(page: Page, snapshot: Snapshot, admission: Sequence[AdmissionStatus]) -> None:
    """What runs and waits at each device. Of one that no request went to it is known that none waits."""
    keys = _keys(snapshot)
    known = {keys.get(item.device, item.device): item for item in admission}
    for key, item in known.items():
        page.add(families.QUEUE, (key,), item.waiting)
        page.add(families.RUNNING, (key,), item.running)
        page.add(families.SLOTS, (key,), item.limit)
        for state in BreakerState:
            page.add(families.BREAKER, (key, state.value), 1 if state is item.breaker else 0)
    for status in snapshot.devices:
        device = status.device
        if device.key not in known and (device.capabilities.inference or device.runtime is not None):
            page.add(families.QUEUE, (device.key,), 0)


def _keys(snapshot: Snapshot) -> Mapping[str, str]:
    return {status.device.id: status.device.key for status in snapshot.devices}


def _fill_identity(page: Page, status: DeviceStatus) -> None:
    device = status.device
    labels = (
        device.key,
        device.id,
        device.kind.value,
        device.vendor,
        device.name,
        device.driver or "",
        device.firmware or "",
        device.pci or "",
        device.source,
        device.parent or "",
        device.capabilities.compute_capability or "",
    )
    page.add(families.DEVICE, labels, 1)
    page.add(families.UP, (device.key,), 0 if status.health.state in _DOWN else 1)
    for state in HealthState:
        page.add(families.HEALTH, (device.key, state.value), 1 if state is status.health.state else 0)


def _fill_limits(page: Page, status: DeviceStatus) -> None:
    key, limits = status.device.key, status.device.limits
    page.add(families.POWER_LIMIT, (key,), limits.power_w)
    page.add(families.CLOCK_LIMIT, (key,), limits.clock_hz)
    page.add(families.TEMPERATURE_LIMIT, (key, "slowdown"), limits.temperature_slowdown_c)
    page.add(families.TEMPERATURE_LIMIT, (key, "shutdown"), limits.temperature_shutdown_c)
    page.add(families.TEMPERATURE_LIMIT, (key, "memory"), limits.memory_temperature_max_c)


def _fill_readings(page: Page, status: DeviceStatus) -> None:
    key = status.device.key
    for pool in status.pools:
        page.add(families.MEMORY_USED, (key, pool.id), pool.used_bytes)
        page.add(families.MEMORY_TOTAL, (key, pool.id), pool.total_bytes)
        page.add(families.MEMORY_FREE, (key, pool.id), pool.free_bytes)
    for name, reading in status.readings.items():
        home = families.READINGS.get(name)
        if home is None or not is_present(reading) or (status.pools and name in _BY_POOL):
            continue
        if is_possible(name, reading):
            page.add(home.family, (key, *home.labels), reading)


def _fill_throttle(page: Page, key: str, throttle: Sequence[ThrottleActivity]) -> None:
    """Two bits without a name are one reason here: it is active when either is."""
    reasons: dict[ThrottleReason, list[ThrottleActivity]] = {}
    for activity in throttle:
        reasons.setdefault(activity.reason, []).append(activity)
    for reason, found in reasons.items():
        labels = (key, reason.value, reason.category.value)
        page.add(families.THROTTLE_ACTIVE, labels, 1 if any(item.active for item in found) else 0)
        page.add(families.THROTTLE_DUTY, labels, _largest([item.duty for item in found]))
        page.add(families.THROTTLE_SECONDS, labels, _largest([item.seconds for item in found]))


def _largest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
