"""How good a device is for a prompt, in parts from 0 to 1 on scales of their own. Pure.

No part looks at another device: whatever joins or leaves, the score of a device stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from hwdash.core.health import HealthState
from hwdash.core.requirement import Policy, Requirements
from hwdash.core.snapshot import DeviceStatus
from hwdash.routing.estimate import Case, Figures, draw_w
from hwdash.routing.field import Field
from hwdash.routing.knowledge import Circumstance
from hwdash.routing.throttling import STEP, calm, throttled_share
from hwdash.routing.trait import SpeedParts

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
DOUBTED = 0.5
"""The share of its score that a device keeps whose newest probe failed or was answered with wrong tokens."""
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
_THROTTLED = HealthState.THROTTLED
_log10, _log1p = math.log10, math.log1p
_LOG_ENOUGH = math.log1p(_ENOUGH_BYTES / _GIB)


def weights_of(requirements: Requirements) -> Mapping[str, float]:
    """The weight of each part under *requirements*, heaviest first. They sum to 1."""
    weights = WEIGHTS[requirements.policy]
    if not requirements.prefer_low_power:
        return weights
    return {"power": POWER_WEIGHT, **{name: weight * (1.0 - POWER_WEIGHT) for name, weight in weights.items()}}


PARTS = ("latency", "throughput", "throttle", "headroom", "load", "energy", "memory", "power")
"""The order of the parts in what `weigh` gives; ``power`` is 0 where low power is not preferred."""
Parts: TypeAlias = tuple[float, ...]
_ALL_UNKNOWN: SpeedParts = (UNKNOWN, UNKNOWN, UNKNOWN, 1.0)
_CPU_UNKNOWN: SpeedParts = (UNKNOWN, UNKNOWN, UNKNOWN, UNMEASURED_CPU)


def weigh(case: Case, field: Field) -> tuple[list[float], list[Parts]]:
    """The score of each device, 0 to 1, to three digits, and its parts, as in `PARTS`.

    A score is the weighted sum of the parts; `UNMEASURED_CPU` of it for a CPU that was never measured,
    `DOUBTED` of it for a device whose newest probe was not well, nothing of it
    for a device that somebody has alone: it comes after all others.
    """
    if not field.statuses:
        return [], []
    low_power = case.requirements.prefer_low_power
    throttle = _throttle(field)
    latency, throughput, energy, keeps = zip(*_speeds(case, field, throttle), strict=True)
    headroom = _headroom(field, heat_alone=low_power)
    power = [_power(status) for status in field.statuses] if low_power else [0.0] * len(throttle)
    parts = list(zip(latency, throughput, throttle, headroom, _load(field), energy, _memory(field), power, strict=True))
    weights = weights_of(case.requirements)
    of_latency, of_throughput, of_throttle, of_headroom, of_load, of_energy, of_memory, of_power = (
        weights.get(name, 0.0) for name in PARTS
    )
    sums = [
        of_latency * latency
        + of_throughput * throughput
        + of_throttle * throttle
        + of_headroom * headroom
        + of_load * load
        + of_energy * energy
        + of_memory * memory
        + of_power * power
        for latency, throughput, throttle, headroom, load, energy, memory, power in parts
    ]
    if any(circumstance.doubt for circumstance in field.circumstances):
        keeps = tuple(
            kept * DOUBTED if circumstance.doubt else kept
            for kept, circumstance in zip(keeps, field.circumstances, strict=True)
        )
    scores = [
        0.0 if circumstance.held else int(total * kept * 1000.0 + 0.5) / 1000.0
        for total, kept, circumstance in zip(sums, keeps, field.circumstances, strict=True)
    ]
    return scores, parts


def _throttle(field: Field) -> list[float]:
    """1 for a device that nothing holds back, 0 for one that is held back all the time."""
    columns = zip(field.statuses, field.states, field.margins, strict=True)
    return [
        1.0
        if state is not _THROTTLED and (margin is None or margin > 0.0) and calm(status.throttle)
        else 1.0 - throttled_share(status)
        for status, state, margin in columns
    ]


def _headroom(field: Field, *, heat_alone: bool) -> list[float]:
    """The smaller of what is left to the slowdown temperature and to the power limit; only heat where power is a part."""
    heat = [
        None
        if margin is None
        else 1.0
        if margin >= _COOL_C
        else int(margin * _COOL_STEPS + 0.5) / _STEPS
        if margin > 0.0
        else 0.0
        for margin in field.margins
    ]
    if heat_alone:
        return [UNKNOWN if part is None else part for part in heat]
    limits = [trait.build.power_w for trait in field.traits]
    power = [
        (UNKNOWN if part is None else part)
        if watts is None or not limit
        else 0.0
        if watts >= limit
        else int((1.0 - watts / limit) * _STEPS + 0.5) / _STEPS
        for watts, limit, part in zip(field.watts, limits, heat, strict=True)
    ]
    return [left if part is None or left < part else part for part, left in zip(heat, power, strict=True)]


def _speeds(case: Case, field: Field, throttle: Sequence[float]) -> list[SpeedParts]:
    model, tokens, figures = case.knowledge.model, case.knowledge.answer_tokens, case.figures
    speeds = []
    for status, trait, circumstance, need, free, watts in zip(
        field.statuses, field.traits, field.circumstances, field.needs, throttle, field.watts, strict=True
    ):
        build, pace, last = trait.build, circumstance.pace, status.last_request
        by_last = pace is None and last is not None and (model is None or last.model == model)
        if pace is None and need is None and not by_last:
            speeds.append(_CPU_UNKNOWN if build.host else _ALL_UNKNOWN)
        elif by_last or free < 1.0:
            speeds.append(_speed_parts(figures(status, trait, circumstance, need), build.host))
        else:
            # Until its queue changes or an answer is measured, a device that nothing holds back is expected to do the same.
            starts = model is not None and not circumstance.loaded and circumstance.server is None
            queue = circumstance.running + circumstance.waiting
            terms = (starts, queue, circumstance.limit, tokens, watts if build.power_w is None else None)
            steady = trait.steady
            if steady is None or steady[0] is not pace or steady[1] is not need or steady[2] != terms:
                parts = _speed_parts(figures(status, trait, circumstance, need), build.host)
                trait.steady = steady = (pace, need, terms, parts)
            speeds.append(steady[3])
    return speeds


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


def _load(field: Field) -> list[float]:
    """What is free of the device and of its places, whichever is less."""
    free = [UNKNOWN if busy is None else _stepped(1.0 - busy) for busy in field.busy]
    return [
        min(part, _places(circumstance)) if circumstance.running or circumstance.waiting else part
        for part, circumstance in zip(free, field.circumstances, strict=True)
    ]


def _places(circumstance: Circumstance) -> float:
    return _bounded(1.0 - (circumstance.running + circumstance.waiting) / max(1, circumstance.limit))


def _memory(field: Field) -> list[float]:
    """What is free once the model is there, on a logarithmic scale that ends at 64 GiB: more makes no difference."""
    left = [
        free if free is None or need is None else free - need.total_bytes
        for free, need in zip(field.free, field.needs, strict=True)
    ]
    return [
        UNKNOWN
        if free is None
        else 1.0
        if free >= _ENOUGH_BYTES
        else _stepped(_log1p(free / _GIB) / _LOG_ENOUGH)
        if free > 0
        else 0.0
        for free in left
    ]


def _power(status: DeviceStatus) -> float:
    """1 for no power, 0 for 1 kW under load, finer towards the low end."""
    watts = draw_w(status)
    return UNKNOWN if watts is None else _bounded(1.0 - math.sqrt(max(0.0, watts) / _MOST_W))


def _bounded(part: float) -> float:
    return 0.0 if part < 0.0 else 1.0 if part > 1.0 else part


def _stepped(part: float) -> float:
    return 0.0 if part <= 0.0 else 1.0 if part >= 1.0 else int(part * _STEPS + 0.5) / _STEPS
