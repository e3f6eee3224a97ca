"""How good a device is for a prompt, in parts from 0 to 1 on scales of their own. Pure.

No part looks at another device: whatever joins or leaves, the score of a device stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from hwdash.core.ranking import Expectation
from hwdash.core.reading import Absent
from hwdash.core.requirement import Policy, Requirements
from hwdash.core.snapshot import DeviceStatus
from hwdash.routing.estimate import Case, draw_w, free_bytes
from hwdash.routing.knowledge import NO_CIRCUMSTANCE, Circumstance
from hwdash.routing.need import Need
from hwdash.routing.throttling import STEP, throttled_share
from hwdash.routing.trait import Trait

WEIGHTS: Mapping[Policy, Mapping[str, float]] = MappingProxyType(
    {
        Policy.BALANCED: {
            "latency": 0.35,
            "throughput": 0.2,
            "throttle": 0.11,
            "headroom": 0.1,
            "load": 0.1,
            "energy": 0.09,
            "memory": 0.05,
        },
        Policy.LATENCY: {
            "latency": 0.64,
            "throttle": 0.11,
            "throughput": 0.1,
            "load": 0.05,
            "headroom": 0.05,
            "memory": 0.05,
            "energy": 0.0,
        },
        Policy.THROUGHPUT: {
            "throughput": 0.64,
            "throttle": 0.11,
            "latency": 0.1,
            "load": 0.05,
            "headroom": 0.05,
            "memory": 0.05,
            "energy": 0.0,
        },
        Policy.EFFICIENCY: {
            "energy": 0.59,
            "throttle": 0.11,
            "latency": 0.1,
            "throughput": 0.1,
            "load": 0.05,
            "headroom": 0.03,
            "memory": 0.02,
        },
    }
)
"""What each part, itself 0 to 1, contributes to the score of each policy. Throttling weighs the same in all: being
called throttled, half of it at least, is then more than the lead that `hwdash.routing.settle` asks for."""
POWER_WEIGHT = 0.6
"""What the part ``power`` contributes where low power is preferred; the others share the rest as the policy has it."""
UNKNOWN = 0.5
"""The part of what is not known: neither for nor against a device."""
UNMEASURED_CPU = 0.0
"""The parts for speed and energy of a CPU that was never measured: it takes nothing from an accelerator by a guess."""
UNCERTAINTY = 0.25
"""How much longer than estimated an answer is reckoned with, as a share; a measured one has its own spread for that."""
_SHORTEST_S, _ANSWER_DECADES = 0.05, 4.0
_RATE_DECADES = 3.0
_LEAST_J, _ENERGY_DECADES = 0.1, 4.0
_ENOUGH_BYTES = 64 * 2**30
_COOL_C = 30.0
_MOST_W = 1000.0
_STEPS = 1.0 / STEP
_GIB = 2.0**30
_LOG_ENOUGH = math.log1p(_ENOUGH_BYTES / _GIB)


def weights_of(requirements: Requirements) -> Mapping[str, float]:
    """The weight of each part under *requirements*, heaviest first. They sum to 1."""
    weights = WEIGHTS[requirements.policy]
    if not requirements.prefer_low_power:
        return weights
    return {"power": POWER_WEIGHT, **{name: weight * (1.0 - POWER_WEIGHT) for name, weight in weights.items()}}


class Scale:
    """Scores devices for one `Case`."""

    __slots__ = ("_case", "_low_power", "_plain", "_weights")

    def __init__(self, case: Case) -> None:
        self._case = case
        self._low_power = case.requirements.prefer_low_power
        self._weights = tuple(weights_of(case.requirements).items())
        self._plain: dict[tuple[int, str], tuple[float, float, float]] = {}

    def parts(self, status: DeviceStatus, trait: Trait, circumstance: Circumstance) -> dict[str, float]:
        """Each part, 0 to 1."""
        need = self._case.need(status, trait, circumstance)
        throttled = throttled_share(status)
        latency, throughput, energy = self._speed(status, trait, circumstance, need, throttled > 0)
        parts = {
            "latency": latency,
            "throughput": throughput,
            "throttle": 1.0 - throttled,
            "headroom": self._headroom(status, trait),
            "load": _load(status, circumstance),
            "energy": energy,
            "memory": _memory(status, need),
        }
        if self._low_power:
            parts["power"] = _power(status)
        return parts

    def score(self, parts: Mapping[str, float]) -> float:
        """Their weighted sum, 0 to 1, to three digits."""
        total = 0.0
        for name, weight in self._weights:
            total += weight * parts[name]
        return round(min(total, 1.0), 3)

    def _speed(
        self, status: DeviceStatus, trait: Trait, circumstance: Circumstance, need: Need | None, throttled: bool
    ) -> tuple[float, float, float]:
        if circumstance is NO_CIRCUMSTANCE and not throttled and need is not None and trait.build.power_w is not None:
            if self._case.last(status) is not None:
                return _speed_parts(self._case.expect(status), trait.build.host)
            # Nothing but the build tells these devices apart.
            place = (id(trait.build), need.dtype)
            found = self._plain.get(place)
            if found is None:
                found = self._plain[place] = _speed_parts(self._case.expect(status), trait.build.host)
            return found
        return _speed_parts(self._case.expect(status), trait.build.host)

    def _headroom(self, status: DeviceStatus, trait: Trait) -> float:
        """The smaller of what is left to the slowdown temperature and to the power limit; only heat where power is a part."""
        readings = status.readings
        margin = readings.get("temperature_margin_c")
        part = UNKNOWN
        known = margin is not None and not isinstance(margin, Absent)
        if margin is not None and not isinstance(margin, Absent):
            part = _stepped(margin / _COOL_C)
        limit = trait.build.power_w
        if limit and not self._low_power:
            watts = readings.get("power_w")
            if watts is not None and not isinstance(watts, Absent):
                left = _stepped(1.0 - watts / limit)
                part = min(part, left) if known else left
        return part


def _speed_parts(expected: Expectation, host: bool) -> tuple[float, float, float]:
    """The parts ``latency``, ``throughput`` and ``energy``, on logarithmic scales.

    1 is an answer in 50 ms, 1000 tokens/s and 0.1 J a token; 0 one in 500 s, 1 token/s and 1 kJ a token.
    """
    if host and not expected.measured:
        return UNMEASURED_CPU, UNMEASURED_CPU, UNMEASURED_CPU
    latency = throughput = energy = UNKNOWN
    doubt = UNCERTAINTY if not expected.measured else min(1.0, expected.spread or 0.0)
    if expected.answer_s is not None and expected.answer_s > 0:
        latency = _bounded(1.0 - math.log10(expected.answer_s * (1.0 + doubt) / _SHORTEST_S) / _ANSWER_DECADES)
    elif expected.ttft_s is not None:
        latency = _bounded(1.0 - math.log10(max(expected.ttft_s, 1e-6) * (1.0 + doubt) / _SHORTEST_S) / _ANSWER_DECADES)
    if expected.tokens_per_s is not None:
        throughput = _bounded(math.log10(expected.tokens_per_s / (1.0 + doubt)) / _RATE_DECADES)
    if expected.joules_per_token is not None:
        energy = _bounded(1.0 - math.log10(max(expected.joules_per_token, 1e-6) / _LEAST_J) / _ENERGY_DECADES)
    return latency, throughput, energy


def _load(status: DeviceStatus, circumstance: Circumstance) -> float:
    """What is free of the device and of its places, whichever is less."""
    busy = status.readings.get("utilization")
    part = UNKNOWN if busy is None or isinstance(busy, Absent) else _stepped(1.0 - busy)
    if circumstance is NO_CIRCUMSTANCE:
        return part
    return min(part, _bounded(1.0 - (circumstance.running + circumstance.waiting) / max(1, circumstance.limit)))


def _memory(status: DeviceStatus, need: Need | None) -> float:
    """What is free once the model is there, on a logarithmic scale that ends at 64 GiB: more makes no difference."""
    free = free_bytes(status)
    if free is None:
        return UNKNOWN
    left = free if need is None else free - need.total_bytes
    return _stepped(math.log1p(left / _GIB) / _LOG_ENOUGH) if left > 0 else 0.0


def _power(status: DeviceStatus) -> float:
    """1 for no power, 0 for 1 kW under load, finer towards the low end."""
    watts = draw_w(status)
    return UNKNOWN if watts is None else _bounded(1.0 - math.sqrt(max(0.0, watts) / _MOST_W))


def _bounded(part: float) -> float:
    return 0.0 if part < 0.0 else 1.0 if part > 1.0 else part


def _stepped(part: float) -> float:
    return 0.0 if part <= 0.0 else 1.0 if part >= 1.0 else int(part * _STEPS + 0.5) / _STEPS
