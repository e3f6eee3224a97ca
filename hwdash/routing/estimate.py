"""What a device is expected to do with a prompt: measured where it was, else from the roofline. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hwdash.core.health import HealthState
from hwdash.core.ranking import Expectation
from hwdash.core.requirement import Requirements
from hwdash.core.snapshot import DeviceStatus, LastRequest
from hwdash.routing.knowledge import Circumstance, Knowledge
from hwdash.routing.need import Need, fitting, needs
from hwdash.routing.roofline import BUSY_SHARE, Roofline, roofline, start_s
from hwdash.routing.throttling import stretch
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


@dataclass(frozen=True, slots=True)
class _Speed:
    """Seconds to the first token and from token to token, and where they come from."""

    ttft_s: float | None = None
    itl_s: float | None = None
    measured: bool = False
    samples: int = 0
    spread: float | None = None


_UNKNOWN = _Speed()


class Case:
    """One request, held against devices. What is the same for all devices of a build is worked out once."""

    __slots__ = ("_needs", "_rooflines", "knowledge", "requirements")

    def __init__(self, requirements: Requirements, knowledge: Knowledge) -> None:
        self.requirements = requirements
        self.knowledge = knowledge
        self._needs: dict[tuple[int, bool], tuple[Need, ...]] = {}
        self._rooflines: dict[tuple[int, str], Roofline] = {}

    def need(self, status: DeviceStatus, trait: Trait, circumstance: Circumstance) -> Need | None:
        """What the model takes of the device's memory; None where that is not known or an external server's business."""
        shape = self.knowledge.shape
        if shape is None or circumstance.server is not None:
            return None
        place = (id(trait.build), circumstance.loaded)
        choices = self._needs.get(place)
        if choices is None:
            choices = needs(trait.build, shape, self.requirements.context_tokens, circumstance.loaded)
            self._needs[place] = choices
        return choices[0] if len(choices) == 1 else fitting(choices, free_bytes(status))

    def roofline(self, build: Build, need: Need) -> Roofline | None:
        """How fast a device of that build should be with the model in the precision of *need*."""
        place = (id(build), need.dtype)
        found = self._rooflines.get(place)
        if found is None and self.knowledge.shape is not None:
            found = roofline(build, self.knowledge.shape, need.dtype, self.knowledge.prompt_tokens)
            self._rooflines[place] = found
        return found

    def last(self, status: DeviceStatus) -> LastRequest | None:
        """The device's last request, where it was one with this model, or no model is asked for."""
        last = status.last_request
        if last is None or (self.knowledge.model is not None and last.model != self.knowledge.model):
            return None
        return last

    def stretch(self, status: DeviceStatus) -> float:
        """How many times as long things take as they were measured or estimated to.

        1 also where the newest measurement is from after the device became throttled: it has that in it.
        """
        last = self.last(status)
        health = status.health
        if last is not None and health.state is HealthState.THROTTLED and last.finished_at >= health.since:
            return 1.0
        return stretch(status)

    def expect(self, status: DeviceStatus) -> Expectation:
        """As `hwdash.routing.estimate.expect`."""
        knowledge = self.knowledge
        circumstance = knowledge.of(status.device.key)
        trait = trait_of(status.device)
        need = self.need(status, trait, circumstance)
        line = None if need is None else self.roofline(trait.build, need)
        speed = self._speed(status, circumstance, line)
        slower = self.stretch(status) if speed is not _UNKNOWN and status.throttle else 1.0
        ttft_s = None if speed.ttft_s is None else speed.ttft_s * slower
        itl_s = None if speed.itl_s is None else speed.itl_s * slower
        cold_s = self._cold_start_s(circumstance, trait.build, line)
        wait_s = 0.0
        answer_s = None
        if ttft_s is not None and itl_s is not None:
            turn_s = ttft_s + knowledge.answer_tokens * itl_s
            if ahead := _ahead(circumstance):
                wait_s = ahead * turn_s / max(1, circumstance.limit)
            answer_s = wait_s + cold_s + turn_s
        return Expectation(
            ttft_s,
            1.0 / itl_s if itl_s else None,
            answer_s,
            wait_s,
            cold_s,
            _joules(status, circumstance, itl_s),
            speed.measured,
            speed.samples,
            speed.spread,
        )

    def queued(self, status: DeviceStatus) -> bool:
        """A request to the device would wait behind others."""
        return _ahead(self.knowledge.of(status.device.key)) > 0

    def _speed(self, status: DeviceStatus, circumstance: Circumstance, line: Roofline | None) -> _Speed:
        measured = self._measured(status, circumstance)
        if measured is None:
            return _UNKNOWN if line is None else _Speed(line.ttft_s, line.itl_s)
        if line is None or (measured.ttft_s is not None and measured.itl_s is not None):
            return measured
        ttft_s = line.ttft_s if measured.ttft_s is None else measured.ttft_s
        return _Speed(ttft_s, line.itl_s if measured.itl_s is None else measured.itl_s)

    def _measured(self, status: DeviceStatus, circumstance: Circumstance) -> _Speed | None:
        pace = circumstance.pace
        if pace is not None and (main := pace.itl_s or pace.ttft_s) is not None:
            ttft_s = None if pace.ttft_s is None else pace.ttft_s.value
            itl_s = None if pace.itl_s is None else pace.itl_s.value
            spread = main.deviation / main.value if pace.samples > 1 and main.value > 0 else None
            return _Speed(ttft_s, itl_s, True, pace.samples, spread)
        last = self.last(status)
        if last is None or (last.ttft_s is None and not last.tokens_per_s):
            return None
        return _Speed(last.ttft_s, 1.0 / last.tokens_per_s if last.tokens_per_s else None, True, 1)

    def _cold_start_s(self, circumstance: Circumstance, build: Build, line: Roofline | None) -> float:
        if circumstance.loaded or circumstance.server is not None or self.knowledge.model is None:
            return 0.0
        if circumstance.pace is not None and circumstance.pace.cold_start_s is not None:
            return circumstance.pace.cold_start_s.value
        return start_s(build) if line is None else line.cold_start_s


def _joules(status: DeviceStatus, circumstance: Circumstance, itl_s: float | None) -> float | None:
    pace = circumstance.pace
    if pace is not None and pace.joules_per_token is not None:
        return pace.joules_per_token.value
    if itl_s is None:
        return None
    limit = status.device.limits.power_w
    watts = status.number("power_w") if limit is None else limit * BUSY_SHARE
    return None if watts is None else watts * itl_s


def _ahead(circumstance: Circumstance) -> int:
    """How many requests have to end before it is the turn of the next one."""
    return max(0, circumstance.running + circumstance.waiting - circumstance.limit + 1)
