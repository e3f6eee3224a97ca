"""What the daemon learns of its devices: how fast they answer, and what keeps requests away from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count

from hwdash.core.clock import Clock
from hwdash.core.device import Device
from hwdash.core.errors import DeviceFull, EngineError, HwdashError, NoKernels, ServerDown, WorkerDied
from hwdash.core.event import Event, EventKind, Severity
from hwdash.core.group import group_names
from hwdash.core.inference import Timing
from hwdash.core.model import ModelShape
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.core.status import AdmissionStatus
from hwdash.daemon.circuit import Circuits
from hwdash.daemon.gate import Gate, Line
from hwdash.daemon.group_gate import GroupGate, GroupLine
from hwdash.daemon.probe_book import ProbeBook
from hwdash.daemon.shape import ShapeBook
from hwdash.daemon.verdict import Verdicts
from hwdash.engine.engine import Engine, Standing
from hwdash.routing.admission import limit_of
from hwdash.routing.knowledge import Circumstance, Knowledge
from hwdash.routing.pace import Pace
from hwdash.store.pace import StoredAnswer

TYPICAL_ANSWER = 256
"""An answer is taken to be no longer than this, however many tokens are allowed."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try of *model* on a device that was in *status* when it began, with the model ``loaded`` or not."""

    number: int
    status: DeviceStatus
    model: str
    loaded: bool
    began_s: float


class Ledger:
    """Paces, circuit breakers and verdicts of all devices; *tell* gets an event when one of the latter two changes.

    ``gates`` are by the device's key, ``shapes`` those of models, ``probes`` what probes came to. *most* is how many requests one device may run at
    once on workers of our own; of each model, these run as many as they say.
    """

    def __init__(self, engine: Engine, most: int, tell: Callable[[Event], None], clock: Clock) -> None:
        self.gates: dict[str, Gate] = {}
        self.shapes = ShapeBook(engine.shape, clock)
        self.probes = ProbeBook()
        self._engine = engine
        self._most = most
        self._tell = tell
        self._clock = clock
        self._paces: dict[tuple[str, str], Pace] = {}
        self._circuits = Circuits()
        self._verdicts = Verdicts()
        self._numbers = count(1)

    def seed(self, answers: Iterable[StoredAnswer]) -> None:
        """Learn from *answers* of earlier days, oldest first, where nothing was learned yet."""
        paces: dict[tuple[str, str], Pace] = {}
        for answer in answers:
            pair = (answer.device_key, answer.model)
            pace = paces.get(pair, Pace())
            paces[pair] = pace.after(answer.ttft_s, answer.itl_s, answer.cold_start_s, answer.joules_per_token)
        self._paces = paces | self._paces

    def learn(self, key: str, model: str, timing: Timing, joules_per_token: float | None) -> None:
        """Take in a finished answer; *timing* is the engine's own.

        The gaps between the pieces of an answer say less than its speed: a server may send several tokens at once.
        """
        pace = self._paces.get((key, model), Pace())
        itl = 1.0 / timing.tokens_per_s if timing.tokens_per_s else timing.itl_p50_s
        self._paces[key, model] = pace.after(timing.warm_ttft_s, itl, timing.cold_start_s, joules_per_token)

    def attempt(self, status: DeviceStatus, model: str) -> Attempt:
        """A try of *model* that begins now on the device in *status*."""
        loaded = self._engine.standing(model, status.device).loaded
        return Attempt(next(self._numbers), status, model, loaded, self._clock.monotonic())

    def begin(self, status: DeviceStatus, model: str) -> Attempt:
        """The same for a request that has its turn: a trial, where requests are kept away otherwise."""
        attempt = self.attempt(status, model)
        key = status.device.key
        self._verdicts.begin(key, model, attempt.began_s)
        self._circuits.begin(key, model, attempt.number, attempt.began_s)
        return attempt

    def end(self, attempt: Attempt, outcome: HwdashError | bool) -> None:
        """*attempt* came to *outcome*: an error, an answer (true), or nothing that says anything (false)."""
        status, model, now_s = attempt.status, attempt.model, self._clock.monotonic()
        device, key = status.device, status.device.key
        bad, told = True, ""
        if isinstance(outcome, NoKernels):
            if self._verdicts.lacks_kernels(key, "" if outcome.any_model else model, outcome.message):
                what = "prompts" if outcome.any_model else f"prompts for {model}"
                told = f"no {what} go to it any more: {outcome.message}"
        elif isinstance(outcome, DeviceFull):
            # A model that was there already fits: it was the prompt that did not.
            if not attempt.loaded and self._verdicts.was_full(status, model, outcome.message, now_s):
                told = f"no prompts for {model} until memory is free: {outcome.message}"
        elif isinstance(outcome, WorkerDied | ServerDown) or type(outcome) is EngineError:
            told = self._circuits.failed(key, model, outcome.message, attempt.began_s, now_s)
        elif outcome is True:
            bad, ran = False, self._verdicts.runs(key, model)
            told = self._circuits.succeeded(key, model, now_s) or (f"{model} runs there again" if ran else "")
        self._circuits.abandoned(key, model, attempt.number)
        if told:
            self._note(device, Severity.WARNING if bad else Severity.INFO, told)

    def review(self, snapshot: Snapshot) -> None:
        """What *snapshot* changes: limits of running requests, and verdicts on memory that is free now."""
        for status in snapshot.devices:
            for model in self._verdicts.review(status, self._clock.monotonic()):
                self._note(status.device, Severity.INFO, f"memory is free again: prompts for {model} may go there")
            if (gate := self.gates.get(status.device.key)) is not None:
                gate.adjust(*limit_of(status, gate.slots))

    def at_work(self, key: str) -> bool:
        """Somebody computes on the device, or has it alone: a request, a probe, a bench, a soak."""
        gate = self.gates.get(key)
        return gate is not None and bool(gate.running or gate.held)

    def gate(self, status: DeviceStatus) -> Gate | GroupGate:
        """The gate before the device in *status*, or those before all devices of a group."""
        gates = self._gates_of(status)
        return GroupGate(gates) if status.device.members else gates[0]

    def _gates_of(self, status: DeviceStatus) -> list[Gate]:
        """The gates of all devices of that in *status*, in the order of their keys."""
        gates = []
        for device in sorted(status.device.members or (status.device,), key=lambda member: member.key):
            if (gate := self.gates.get(device.key)) is None:
                gate = self.gates[device.key] = Gate(device.id, 0, self._most, self._clock)
                gate.adjust(*limit_of(status, gate.slots))
            gates.append(gate)
        return gates

    def line(self, status: DeviceStatus, model: str, max_queue: int) -> Line | GroupLine:
        """Where a request for *model* queues before the device in *status*, behind *max_queue* others at most.

        A worker of our own has a line for each model, a server one for all of its models.
        """
        device = status.device
        standing = self._engine.standing(model, device)
        slots = self._room(standing)
        gates = self._gates_of(status)
        for gate in gates:
            gate.max_queue = max_queue
            gate.slots = max(gate.slots, slots) if gate.running or gate.waiting else slots
            gate.adjust(*limit_of(status, gate.slots))
        lines = [gate.line(_line_name(standing, model, device), standing.slots) for gate in gates]
        return GroupLine(lines) if device.members else lines[0]

    def knowledge(
        self,
        model: str,
        snapshot: Snapshot,
        shape: ModelShape | None,
        prompt_tokens: int = 64,
        answer_tokens: int = 64,
        named: str = "",
    ) -> Knowledge:
        """All that is known of *model* on the devices of *snapshot*.

        Whoever names a device (*named*, its id or key) may try it in spite of what keeps requests away. A group is among
        them where it is named. Raises `UnknownDevice` and `UsageError` for one that there cannot be.
        """
        group = snapshot.find(named) if group_names(named) else None
        circumstances: Mapping[str, Circumstance] = {
            status.device.key: self._circumstance(
                model, status, asked=status is group or (bool(named) and named in (status.device.id, status.device.key))
            )
            for status in (*snapshot.devices, *([group] if group is not None else ()))
        }
        return Knowledge(model, shape, circumstances, prompt_tokens, min(answer_tokens, TYPICAL_ANSWER))

    def held_back(self, key: str, model: str) -> tuple[str, float]:
        """Why no request for *model* may go to the device for so many seconds; empty when one may."""
        now_s = self._clock.monotonic()
        breaker, memory = self._circuits.held_back(key, model, now_s), self._verdicts.memory(key, model, now_s)
        return breaker if breaker[0] else memory

    def admission(self, snapshot: Snapshot) -> tuple[AdmissionStatus, ...]:
        """What goes to each device that a request went to or is kept away from."""
        now_s = self._clock.monotonic()
        found = []
        for status in snapshot.devices:
            key = status.device.key
            gate, verdicts = self.gates.get(key), self._verdicts.sentences(key)
            breaker, problem = self._circuits.standing(key, now_s)
            if gate is None and not problem and not verdicts:
                continue
            found.append(
                AdmissionStatus(
                    status.device.id,
                    running=gate.running if gate else 0,
                    waiting=gate.waiting if gate else 0,
                    limit=(0 if gate.barred else gate.limit) if gate else self._most,
                    why=(gate.barred or gate.why) if gate else "",
                    breaker=breaker,
                    problem=problem,
                    verdicts=verdicts,
                )
            )
        return tuple(found)

    def _circumstance(self, model: str, status: DeviceStatus, *, asked: bool) -> Circumstance:
        key = status.device.key
        standing = self._engine.standing(model, status.device)
        # A server may be back before the next probe of it: who names it finds out.
        barred = "" if asked and standing.server is not None else standing.problem
        again_s = None
        if not barred and not asked:
            barred = self._verdicts.kernels(key, model) if standing.server is None else ""
            if not barred:
                barred, wait_s = self.held_back(key, model)
                again_s = wait_s if barred else None
            barred = barred or self.probes.barred(key, model)
        running, waiting, limit, why = self._load(status, standing, model)
        return Circumstance(
            pace=self._paces.get((key, model)),
            loaded=standing.loaded,
            running=running,
            waiting=waiting,
            limit=limit,
            limit_why=why,
            server=standing.server,
            barred=barred,
            again_s=again_s,
            doubt=self.probes.trouble(key, model),
            up_ratio=self.probes.up_ratio(key, model, self._clock.now()),
            drift=self.probes.drifted(key, model),
            held=self._barred(status.device),
        )

    def _load(self, status: DeviceStatus, standing: Standing, model: str) -> tuple[int, int, int, str]:
        slots = max(1, standing.slots)
        device = status.device
        gates = [gate for member in device.members or (device,) if (gate := self.gates.get(member.key)) is not None]
        if not gates:
            limit, why = limit_of(status, self._room(standing))
            return standing.running, standing.waiting, min(slots, limit), why if slots >= limit else ""
        lines = [gate.line(_line_name(standing, model, device), slots) for gate in gates]
        running, waiting, limit, why = GroupLine(lines).load
        return max(running, standing.running), waiting, limit, why

    def _barred(self, device: Device) -> str:
        gates = (self.gates.get(member.key) for member in device.members or (device,))
        return next((gate.barred for gate in gates if gate is not None and gate.barred), "")

    def _room(self, standing: Standing) -> int:
        """How many requests the device may run at once where an engine stands like that."""
        return self._most if standing.server is None else max(1, standing.slots)

    def _note(self, device: Device, severity: Severity, words: str) -> None:
        self._tell(Event(self._clock.now(), device.key, EventKind.DEVICE, severity, words, device.id))


def _line_name(standing: Standing, model: str, device: Device) -> str:
    if standing.server is not None:
        return f"server {standing.server}"
    return f"model {model} on {device.key}" if device.members else f"model {model}"
