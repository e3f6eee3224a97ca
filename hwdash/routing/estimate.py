"""What a device is expected to do with a prompt: measured where it was, else from the roofline. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

from hwdash.core.health import HealthState
from hwdash.core.model import ModelShape
from hwdash.core.ranking import Expectation
from hwdash.core.requirement import Requirements
from hwdash.core.snapshot import DeviceStatus
from hwdash.routing.knowledge import Circumstance, Knowledge
from hwdash.routing.need import Need, fitting, needs
from hwdash.routing.roofline import BUSY_SHARE, Roofline, roofline, start_s
from hwdash.routing.throttling import calm, stretch
from hwdash.routing.trait import Build, Trait, trait_of


def expect(status: DeviceStatus, knowledge: Knowledge, requirements: Requirements) -> Expectation:
    """What the device of *status* is expected to do with a prompt as *knowledge* has it, with everything ahead of it."""
    return Case(requirements, knowledge).expect(status)


def draw_w(status: DeviceStatus) -> float | None:
    """Watts that a device may draw under load: its limit, or what it draws now where it has none; None: unknown."""
    limit = status.device.limits.power_w
    return status.number("power_w") if limit is None else limit


def free_bytes(status: DeviceStatus) -> int | None:
    """Free bytes of the device's largest pool; None where no memory can be read."""
    pools = status.pools
    if len(pools) == 1:
        return pools[0].free_bytes
    pool = status.largest_pool
    return None if pool is None else pool.free_bytes


Figures: TypeAlias = tuple[
    float | None, float | None, float | None, float, float, float | None, bool, int, float | None
]
"""The fields of an `Expectation`, in their order: a ranking of many devices needs no objects of them."""


_LEAST_RATE = 1e-6
"""Tokens per second; a slower answer says nothing of the device."""


class Make:
    """What a model comes to on devices of one build: its needs, and rooflines by precision."""

    __slots__ = ("fresh", "lines", "loaded")

    def __init__(self, build: Build, shape: ModelShape, context_tokens: int | None, prompt_tokens: int) -> None:
        self.fresh = needs(build, shape, context_tokens, loaded=False)
        self.loaded = needs(build, shape, context_tokens, loaded=True)
        self.lines = {need.dtype: roofline(build, shape, need.dtype, prompt_tokens) for need in self.fresh}


@lru_cache(maxsize=256)
def _made(build: Build, shape: ModelShape, context_tokens: int | None, prompt_tokens: int) -> Make:
    return Make(build, shape, context_tokens, prompt_tokens)


class Case:
    """One request, held against devices. What is the same for all devices of a build is worked out once.

    ``asks_little``: nothing but memory is asked for.
    """

    __slots__ = ("_makes", "asks_little", "knowledge", "requirements")

    def __init__(self, requirements: Requirements, knowledge: Knowledge) -> None:
        self.requirements = requirements
        self.knowledge = knowledge
        self.asks_little = (
            requirements.max_latency_s is None
            and requirements.max_power_w is None
            and not requirements.features
            and not requirements.kinds
        )
        self._makes: dict[int, Make] = {}

    def _make(self, build: Build, shape: ModelShape) -> Make:
        found = self._makes.get(id(build))
        if found is None:
            found = _made(build, shape, self.requirements.context_tokens, self.knowledge.prompt_tokens)
            self._makes[id(build)] = found
        return found

    def need(self, free: int | None, trait: Trait, circumstance: Circumstance) -> Need | None:
        """What the model takes of a device with *free* bytes (None: unknown).

        None where that is not known or an external server's business.
        """
        shape = self.knowledge.shape
        if shape is None or circumstance.server is not None:
            return None
        make = self._makes.get(id(trait.build)) or self._make(trait.build, shape)
        choices = make.loaded if circumstance.loaded else make.fresh
        return choices[0] if free is None or choices[0].total_bytes <= free else fitting(choices, free)

    def roofline(self, build: Build, need: Need | None) -> Roofline | None:
        """How fast a device of that build should be with the model in the precision of *need*."""
        shape = self.knowledge.shape
        return None if need is None or shape is None else self._make(build, shape).lines[need.dtype]

    def expect(self, status: DeviceStatus) -> Expectation:
        """As `hwdash.routing.estimate.expect`."""
        trait = trait_of(status.device)
        circumstance = self.knowledge.of(status.device.key)
        return Expectation(
            *self.figures(status, trait, circumstance, self.need(free_bytes(status), trait, circumstance))
        )

    def stretch(self, status: DeviceStatus) -> float:
        """How many times as long things take as they were measured or estimated to.

        1 also where the newest measurement is from after the device became throttled: it has that in it.
        """
        last = status.last_request
        health = status.health
        if (
            last is not None
            and self.knowledge.model in (None, last.model)
            and health.state is HealthState.THROTTLED
            and last.finished_at >= health.since
        ):
            return 1.0
        return stretch(status)

    def figures(self, status: DeviceStatus, trait: Trait, circumstance: Circumstance, need: Need | None) -> Figures:
        """What to expect, where the device's *trait*, *circumstance* and *need* are known already."""
        knowledge = self.knowledge
        line = self.roofline(trait.build, need)
        ttft_s, itl_s, samples, spread = self._measured(status, circumstance)
        measured = samples > 0
        if line is not None and (ttft_s is None or itl_s is None):
            ttft_s = line.ttft_s if ttft_s is None else ttft_s
            itl_s = line.itl_s if itl_s is None else itl_s
            measured, samples, spread = False, 0, None
        if not calm(status.throttle) and (slower := self.stretch(status)) > 1.0:
            ttft_s = None if ttft_s is None else ttft_s * slower
            itl_s = None if itl_s is None else itl_s * slower
        cold_s = wait_s = 0.0
        pace = circumstance.pace
        if not circumstance.loaded and knowledge.model is not None and circumstance.server is None:
            if pace is not None and pace.cold_start_s is not None:
                cold_s = pace.cold_start_s.value
            else:
                cold_s = start_s(trait.build) if line is None else line.cold_start_s
        answer_s = None
        if ttft_s is not None and itl_s is not None and not circumstance.held:
            turn_s = ttft_s + knowledge.answer_tokens * itl_s
            if (before := ahead(circumstance)) > 0:
                wait_s = before * turn_s / max(1, circumstance.limit)
            answer_s = wait_s + cold_s + turn_s
        joules = None
        if pace is not None and pace.joules_per_token is not None:
            joules = pace.joules_per_token.value
        elif itl_s is not None:
            limit = trait.build.power_w
            watts = status.number("power_w") if limit is None else limit * BUSY_SHARE
            joules = None if watts is None else watts * itl_s
        rate = 1.0 / itl_s if itl_s else None
        return ttft_s, rate, answer_s, wait_s, cold_s, joules, measured, samples, spread

    def _measured(
        self, status: DeviceStatus, circumstance: Circumstance
    ) -> tuple[float | None, float | None, int, float | None]:
        """TTFT, time from token to token, over how many answers and with which spread; 0 answers: never measured."""
        pace = circumstance.pace
        if pace is not None:
            ttft, itl = pace.ttft_s, pace.itl_s
            main = itl or ttft
            if main is not None:
                return (
                    None if ttft is None else ttft.value,
                    None if itl is None else itl.value,
                    pace.samples,
                    main.deviation / main.value if pace.samples > 1 and main.value > 0 else None,
                )
        last = status.last_request
        if last is None or self.knowledge.model not in (None, last.model):
            return None, None, 0, None
        rate = last.tokens_per_s
        itl_s = 1.0 / rate if rate is not None and rate > _LEAST_RATE else None
        return last.ttft_s, itl_s, 0 if last.ttft_s is None and itl_s is None else 1, None


def ahead(circumstance: Circumstance) -> int:
    """How many requests have to end before it is the turn of the next one; 0 or less: none."""
    return circumstance.running + circumstance.waiting - circumstance.limit + 1
