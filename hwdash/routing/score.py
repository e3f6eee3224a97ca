"""How good a device is for a prompt, in parts from 0 to 1 on scales of their own. Pure.

No part looks at another device: whatever joins or leaves, the score of a device stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

from hwdash.core.reading import Reading, present
from hwdash.core.requirement import Policy, Requirements
from hwdash.core.snapshot import DeviceStatus
from hwdash.routing.estimate import Case, Figures, draw_w, free_bytes
from hwdash.routing.knowledge import Circumstance
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
UNMEASURED_CPU = 0.2
"""The share of its score that a CPU keeps which was never measured: it takes no prompt from an accelerator by a guess."""
UNCERTAINTY = 0.25
"""How much longer than estimated an answer is reckoned with, as a share; a measured one has its own spread for that."""
_SHORTEST_S, _ANSWER_DECADES = 0.05, 4.0
_RATE_DECADES = 3.0
_LEAST_J, _ENERGY_DECADES = 0.1, 4.0
_ENOUGH_BYTES = 64 * 2**30
_COOL_C = 30.0
_MOST_W = 1000.0
_STEPS = 1.0 / STEP
_COOL_STEPS = _STEPS / _COOL_C
_GIB = 2.0**30
_log10, _log1p = math.log10, math.log1p
_LOG_ENOUGH = math.log1p(_ENOUGH_BYTES / _GIB)


def weights_of(requirements: Requirements) -> Mapping[str, float]:
    """The weight of each part under *requirements*, heaviest first. They sum to 1."""
    weights = WEIGHTS[requirements.policy]
    if not requirements.prefer_low_power:
        return weights
    return {"power": POWER_WEIGHT, **{name: weight * (1.0 - POWER_WEIGHT) for name, weight in weights.items()}}


PARTS = ("latency", "throughput", "throttle", "headroom", "load", "energy", "memory", "power")
"""The order of the parts in what `Scale.weigh` gives; ``power`` is there only where low power is preferred."""
Parts: TypeAlias = tuple[float, ...]
SpeedParts: TypeAlias = tuple[float, float, float, float]
"""The parts ``latency``, ``throughput`` and ``energy``, and the share of the score that the device keeps."""
_ALL_UNKNOWN: SpeedParts = (UNKNOWN, UNKNOWN, UNKNOWN, 1.0)


class Scale:
    """Scores devices for one `Case`."""

    __slots__ = ("_case", "_low_power", "_model", "_weights")

    def __init__(self, case: Case) -> None:
        weights = weights_of(case.requirements)
        self._case = case
        self._model = case.knowledge.model
        self._low_power = case.requirements.prefer_low_power
        self._weights = tuple(weights.get(name, 0.0) for name in PARTS)

    def weigh(
        self, status: DeviceStatus, trait: Trait, circumstance: Circumstance, need: Need | None
    ) -> tuple[float, Parts]:
        """The score, 0 to 1, to three digits, and the parts, as in `PARTS`.

        The score is their weighted sum; `UNMEASURED_CPU` of it for a CPU that was never measured.
        """
        throttle = 1.0 - throttled_share(status)
        latency, throughput, energy, keeps = self._speed(status, trait, circumstance, need, throttle)
        headroom = self._headroom(status.readings, trait.build.power_w)
        load = _load(status, circumstance)
        memory = _memory(status, need)
        of_latency, of_throughput, of_throttle, of_headroom, of_load, of_energy, of_memory, of_power = self._weights
        score = (
            of_latency * latency
            + of_throughput * throughput
            + of_throttle * throttle
            + of_headroom * headroom
            + of_load * load
            + of_energy * energy
            + of_memory * memory
        )
        parts = (latency, throughput, throttle, headroom, load, energy, memory)
        if self._low_power:
            power = _power(status)
            return int((score + of_power * power) * keeps * 1000.0 + 0.5) / 1000.0, (*parts, power)
        return int(score * keeps * 1000.0 + 0.5) / 1000.0, parts

    def _headroom(self, readings: Mapping[str, Reading], limit_w: float | None) -> float:
        """The smaller of what is left to the slowdown temperature and to the power limit; only heat where power is a part."""
        margin = readings.get("temperature_margin_c")
        if not isinstance(margin, float):
            margin = present(margin)
        part = UNKNOWN
        if margin is not None:
            part = 1.0 if margin >= _COOL_C else 0.0 if margin <= 0.0 else int(margin * _COOL_STEPS + 0.5) / _STEPS
        if limit_w and not self._low_power:
            watts = readings.get("power_w")
            if not isinstance(watts, float):
                watts = present(watts)
            if watts is not None:
                left = 0.0 if watts >= limit_w else int((1.0 - watts / limit_w) * _STEPS + 0.5) / _STEPS
                return left if margin is None or left < part else part
        return part

    def _speed(
        self, status: DeviceStatus, trait: Trait, circumstance: Circumstance, need: Need | None, throttle: float
    ) -> SpeedParts:
        build = trait.build
        last = status.last_request
        if circumstance.pace is not None or (last is not None and (self._model is None or last.model == self._model)):
            return _speed_parts(self._case.figures(status, trait, circumstance, need), build.host)
        if need is None and not build.host:
            return _ALL_UNKNOWN
        if need is None or throttle < 1.0 or circumstance.running or circumstance.waiting or build.power_w is None:
            return _speed_parts(self._case.figures(status, trait, circumstance, need), build.host)
        # Nothing but their build tells these devices apart.
        plain = self._case.make(build).plain
        found = plain.get(id(need))
        if found is None:
            found = plain[id(need)] = _speed_parts(self._case.figures(status, trait, circumstance, need), build.host)
        return found


def _speed_parts(figures: Figures, host: bool) -> SpeedParts:
    """The parts for what is expected, on logarithmic scales.

    1 is an answer in 50 ms, 1000 tokens/s and 0.1 J a token; 0 one in 500 s, 1 token/s and 1 kJ a token.
    """
    ttft_s, tokens_per_s, answer_s, _wait_s, _cold_s, joules, measured, _samples, spread = figures
    latency = throughput = energy = UNKNOWN
    doubt = 1.0 + UNCERTAINTY if not measured else 1.0 + min(1.0, spread or 0.0)
    if answer_s is None:
        answer_s = ttft_s
    if answer_s is not None:
        latency = _bounded(1.0 - _log10(max(answer_s, 1e-6) * doubt / _SHORTEST_S) / _ANSWER_DECADES)
    if tokens_per_s is not None:
        throughput = _bounded(_log10(max(tokens_per_s, 1e-6) / doubt) / _RATE_DECADES)
    if joules is not None:
        energy = _bounded(1.0 - _log10(max(joules, 1e-6) / _LEAST_J) / _ENERGY_DECADES)
    return latency, throughput, energy, UNMEASURED_CPU if host and not measured else 1.0


def _load(status: DeviceStatus, circumstance: Circumstance) -> float:
    """What is free of the device and of its places, whichever is less."""
    busy = status.readings.get("utilization")
    if not isinstance(busy, float):
        busy = present(busy)
    part = UNKNOWN if busy is None else _stepped(1.0 - busy)
    if circumstance.running or circumstance.waiting:
        return min(part, _bounded(1.0 - (circumstance.running + circumstance.waiting) / max(1, circumstance.limit)))
    return part


def _memory(status: DeviceStatus, need: Need | None) -> float:
    """What is free once the model is there, on a logarithmic scale that ends at 64 GiB: more makes no difference."""
    pools = status.pools
    free = pools[0].free_bytes if len(pools) == 1 else free_bytes(status)
    if free is None:
        return UNKNOWN
    left = free if need is None else free - need.total_bytes
    return 1.0 if left >= _ENOUGH_BYTES else _stepped(_log1p(left / _GIB) / _LOG_ENOUGH) if left > 0 else 0.0


def _power(status: DeviceStatus) -> float:
    """1 for no power, 0 for 1 kW under load, finer towards the low end."""
    watts = draw_w(status)
    return UNKNOWN if watts is None else _bounded(1.0 - math.sqrt(max(0.0, watts) / _MOST_W))


def _bounded(part: float) -> float:
    return 0.0 if part < 0.0 else 1.0 if part > 1.0 else part


def _stepped(part: float) -> float:
    return 0.0 if part <= 0.0 else 1.0 if part >= 1.0 else int(part * _STEPS + 0.5) / _STEPS
