"""Devices in order of preference, with reasons. Pure functions over a snapshot."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from hwdash.core.device import DeviceKind
from hwdash.core.errors import UsageError
from hwdash.core.format import bytes_text, rate_text, seconds_text
from hwdash.core.health import HealthState
from hwdash.core.order import natural_key
from hwdash.core.ranking import ExcludedDevice, RankedDevice, Ranking
from hwdash.core.reading import Absent
from hwdash.core.snapshot import DeviceStatus, Snapshot

POLICIES = ("balanced",)

WEIGHTS = MappingProxyType({"latency": 0.4, "health": 0.3, "free_memory": 0.15, "load": 0.15})
"""What each part, itself 0 to 1, contributes to the score of the policy ``balanced``."""
UNKNOWN = 0.5
"""The part of what is not known: neither for nor against a device."""
UNMEASURED_CPU = 0.1
"""The latency part of a CPU beside an accelerator until the two can be compared: decoding is bound by memory
bandwidth, of which a CPU has about a tenth."""
STEP = 0.05
"""Free memory and load count in steps of this size, so that their jitter does not turn the order around."""

_HEALTH = MappingProxyType({HealthState.OK: 1.0, HealthState.WARM: 0.8, HealthState.THROTTLED: 0.5})
_GIB = 2**30


def rank(snapshot: Snapshot, policy: str = "balanced") -> Ranking:
    """The devices of *snapshot*, best first, and those that cannot take a prompt, each with the reasons.

    The order depends on nothing but the snapshot's content: score, accelerators before CPUs, then the id. An
    excluded device has no influence on the others. Raises `UsageError` for an unknown policy.
    """
    if policy not in POLICIES:
        raise UsageError(f"unknown policy {policy!r}; there are: {', '.join(POLICIES)}", param="policy")
    candidates = []
    excluded = []
    for status in sorted(snapshot.devices, key=lambda status: natural_key(status.device.id)):
        if why := unsuitable(status):
            excluded.append(ExcludedDevice(status.device.id, why))
        else:
            candidates.append(status)
    yardstick = _measure(candidates)
    best = {status.device.id: _score(status, yardstick) for status in candidates}
    order = sorted(
        candidates,
        key=lambda status: (
            -best[status.device.id].score,
            status.device.kind is DeviceKind.CPU,
            natural_key(status.device.id),
        ),
    )
    return Ranking(policy, {}, tuple(best[status.device.id] for status in order), tuple(excluded))


def unsuitable(status: DeviceStatus) -> tuple[str, ...]:
    """Why a device cannot take a prompt, in words; empty when it can."""
    if status.health.state not in _HEALTH:
        return status.health.reasons or (status.health.state.value,)
    if status.readings and set(status.readings.values()) == {Absent.TIMED_OUT}:
        return ("its driver does not answer",)
    if not status.device.capabilities.inference:
        runtime = status.device.runtime
        if runtime is not None and runtime.module is not None:
            return (f"{runtime.module}, by which torch computes on it, is not installed",)
        return ("hwdash cannot run models on it",)
    return ()


@dataclass(frozen=True, slots=True)
class _Yardstick:
    """What the candidates are measured against.

    ``largest_bytes`` is the largest free pool of an accelerator, or of any candidate where there is none: a host's
    terabytes make no GPU small. ``times`` and ``rates`` hold the best TTFT and decode speed of each model that two
    candidates or more were measured with.
    """

    accelerated: bool
    largest_bytes: int
    times: Mapping[str, float]
    rates: Mapping[str, float]


def _measure(candidates: Sequence[DeviceStatus]) -> _Yardstick:
    accelerators = [status for status in candidates if status.device.kind is not DeviceKind.CPU]
    pools = [status.largest_pool for status in accelerators or candidates]
    times: dict[str, list[float]] = defaultdict(list)
    rates: dict[str, list[float]] = defaultdict(list)
    for last in [status.last_request for status in candidates if status.last_request is not None]:
        if last.ttft_s is not None and last.ttft_s > 0:
            times[last.model].append(last.ttft_s)
        if last.tokens_per_s is not None and last.tokens_per_s > 0:
            rates[last.model].append(last.tokens_per_s)
    largest = max((pool.free_bytes for pool in pools if pool is not None), default=0)
    return _Yardstick(
        bool(accelerators),
        largest,
        {model: min(found) for model, found in times.items() if len(found) > 1},
        {model: max(found) for model, found in rates.items() if len(found) > 1},
    )


def _score(status: DeviceStatus, yardstick: _Yardstick) -> RankedDevice:
    latency, latency_why = _latency(status, yardstick)
    memory, memory_why = _free_memory(status, yardstick)
    load, load_why = _load(status)
    parts = {"latency": latency, "health": _health(status), "free_memory": memory, "load": load}
    score = round(sum(WEIGHTS[name] * part for name, part in parts.items()), 3)
    return RankedDevice(
        status.device.id,
        score,
        {name: round(part, 3) for name, part in parts.items()},
        (_health_why(status), memory_why, latency_why, load_why),
    )


def _health(status: DeviceStatus) -> float:
    """A device at or above its slowdown temperature is as good as throttled, flagged or not."""
    margin = status.number("temperature_margin_c")
    state = HealthState.THROTTLED if margin is not None and margin <= 0 else status.health.state
    return min(_HEALTH[state], _HEALTH[status.health.state])


def _health_why(status: DeviceStatus) -> str:
    state = status.health.state.value
    if not status.health.reasons:
        return f"health {state}"
    return f"{state}: {'; '.join(status.health.reasons)}"


def _free_memory(status: DeviceStatus, yardstick: _Yardstick) -> tuple[float, str]:
    """The device's largest free pool against the yardstick, both on a log scale."""
    pool = status.largest_pool
    if pool is None:
        return UNKNOWN, "free memory unknown"
    largest = yardstick.largest_bytes or pool.free_bytes
    share = math.log1p(max(0, pool.free_bytes) / _GIB) / math.log1p(largest / _GIB) if largest > 0 else 0.0
    return _stepped(share), f"{bytes_text(pool.free_bytes)} free"


def _latency(status: DeviceStatus, yardstick: _Yardstick) -> tuple[float, str]:
    """The last request's TTFT and decode speed, each against the best of the devices that last ran the same model."""
    last = status.last_request
    unknown = UNMEASURED_CPU if status.device.kind is DeviceKind.CPU and yardstick.accelerated else UNKNOWN
    if last is None:
        return unknown, "no request measured yet"
    words = []
    shares = []
    if last.ttft_s is not None and last.ttft_s > 0:
        words.append(f"TTFT {seconds_text(last.ttft_s)} at last request")
        if (shortest := yardstick.times.get(last.model)) is not None:
            shares.append(shortest / last.ttft_s)
    if last.tokens_per_s is not None and last.tokens_per_s > 0:
        words.append(f"{rate_text(last.tokens_per_s)} at last request" if not words else rate_text(last.tokens_per_s))
        if (fastest := yardstick.rates.get(last.model)) is not None:
            shares.append(last.tokens_per_s / fastest)
    part = sum(shares) / len(shares) if shares else unknown
    return part, ", ".join(words) or "last request has no timing"


def _load(status: DeviceStatus) -> tuple[float, str]:
    utilization = status.number("utilization")
    if utilization is None:
        return UNKNOWN, "load unknown"
    return _stepped(1.0 - utilization), f"{utilization:.0%} busy"


def _stepped(part: float) -> float:
    return round(min(1.0, max(0.0, part)) / STEP) * STEP
