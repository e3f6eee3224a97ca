"""What the daemon learns of its devices: how fast they answer, and what keeps requests away from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from hwdash.core.clock import Clock
from hwdash.core.device import Device
from hwdash.core.errors import DeviceFull, EngineError, HwdashError, NoKernels, ServerDown, WorkerDied
from hwdash.core.event import Event, EventKind, Severity
from hwdash.core.inference import Timing
from hwdash.core.model import ModelShape
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.core.status import AdmissionStatus, BreakerState
from hwdash.daemon.gate import Gate
from hwdash.daemon.shape import ShapeBook
from hwdash.daemon.verdict import Verdicts
from hwdash.engine.engine import Engine, Standing
from hwdash.routing.admission import limit_of
from hwdash.routing.breaker import Breaker
from hwdash.routing.knowledge import Circumstance, Knowledge
from hwdash.routing.pace import Pace
from hwdash.store.pace import StoredAnswer

TYPICAL_ANSWER = 256
"""An answer is taken to be no longer than this, however many tokens are allowed."""


class Ledger:
    """Paces, circuit breakers and verdicts of all devices; *tell* gets an event when one of the latter two changes.

    ``gates`` are by the device's key, ``shapes`` those of models. *most* is how many requests one device may run at once.
    """

    def __init__(self, engine: Engine, most: int, tell: Callable[[Event], None], clock: Clock) -> None:
        self.gates: dict[str, Gate] = {}
        self.shapes = ShapeBook(engine.shape, clock)
        self._engine = engine
        self._most = most
        self._tell = tell
        self._clock = clock
        self._paces: dict[tuple[str, str], Pace] = {}
        self._breakers: defaultdict[str, Breaker] = defaultdict(Breaker)
        self._verdicts = Verdicts()

    def seed(self, answers: Iterable[StoredAnswer]) -> None:
        """Learn from *answers* of earlier days, oldest first, where nothing was learned yet."""
        paces: dict[tuple[str, str], Pace] = {}
        for answer in answers:
            pair = (answer.device_key, answer.model)
            pace = paces.get(pair, Pace())
            paces[pair] = pace.after(answer.ttft_s, answer.itl_s, answer.cold_start_s, answer.joules_per_token)
        self._paces = paces | self._paces

    def learn(self, key: str, model: str, timing: Timing, joules_per_token: float | None) -> None:
        """Take in a finished answer; *timing* is the engine's own."""
        ttft = timing.warm_ttft_s
        if ttft is not None:
            ttft = max(0.0, ttft - (timing.queue_s or 0.0))
        pace = self._paces.get((key, model), Pace())
        self._paces[key, model] = pace.after(ttft, timing.itl_p50_s, timing.cold_start_s, joules_per_token)

    def begin(self, key: str, model: str) -> None:
        """A request is on its way to the device: a trial, where requests are kept away from it otherwise."""
        now_s = self._clock.monotonic()
        self._verdicts.begin(key, model, now_s)
        self._breakers[key] = self._breakers[key].tried(now_s)

    def end(self, status: DeviceStatus, model: str, outcome: HwdashError | bool) -> None:
        """That request came to *outcome*: an error, an answer (true), or nothing that says anything (false).

        *status* is the device's from before it began.
        """
        device, now_s = status.device, self._clock.monotonic()
        breaker = self._breakers[device.key]
        after = breaker.abandoned()
        if isinstance(outcome, NoKernels):
            if self._verdicts.lacks_kernels(device.key, outcome.message):
                self._note(device, Severity.WARNING, f"no prompts go to it any more: {outcome.message}")
        elif isinstance(outcome, DeviceFull):
            if self._verdicts.was_full(status, model, outcome.message, now_s):
                self._note(device, Severity.WARNING, f"no prompts for {model} until memory is free: {outcome.message}")
        elif isinstance(outcome, WorkerDied | ServerDown) or type(outcome) is EngineError:
            after = breaker.failed(now_s, outcome.message)
        elif outcome is True:
            after = breaker.succeeded()
            if self._verdicts.fits(device.key, model):
                self._note(device, Severity.INFO, f"{model} fits again")
        self._breakers[device.key] = after
        self._note_change(device, breaker.state(now_s), after, now_s)

    def review(self, snapshot: Snapshot) -> None:
        """What *snapshot* changes: limits of running requests, and verdicts on memory that is free now."""
        for status in snapshot.devices:
            for model in self._verdicts.review(status):
                self._note(status.device, Severity.INFO, f"memory is free again: prompts for {model} may go there")
            if (gate := self.gates.get(status.device.key)) is not None:
                self.fit(gate, status, gate.slots)

    def fit(self, gate: Gate, status: DeviceStatus, slots: int) -> None:
        """Have *gate* let through what the device in *status* can take of *slots* requests at once."""
        gate.slots = slots
        gate.adjust(*limit_of(status, slots))

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

        Whoever names a device (*named*, its id or key) may try it in spite of what keeps requests away for a while.
        """
        now_s = self._clock.monotonic()
        circumstances: Mapping[str, Circumstance] = {
            status.device.key: self._circumstance(
                model, status, now_s, asked=bool(named) and named in (status.device.id, status.device.key)
            )
            for status in snapshot.devices
        }
        return Knowledge(model, shape, circumstances, prompt_tokens, min(answer_tokens, TYPICAL_ANSWER))

    def slots(self, standing: Standing) -> int:
        """How many requests may run at once where an engine stands like that. Workers of our own each run one model."""
        return self._most if standing.server is None else max(1, min(self._most, standing.slots))

    def held_back(self, key: str) -> str:
        """Why the circuit breaker keeps requests away from the device; empty when it does not."""
        now_s = self._clock.monotonic()
        breaker = self._breakers.get(key)
        return "" if breaker is None or breaker.admits(now_s) else breaker.words(now_s)

    def admission(self, snapshot: Snapshot) -> tuple[AdmissionStatus, ...]:
        """What goes to each device that a request went to or is kept away from."""
        now_s = self._clock.monotonic()
        found = []
        for status in snapshot.devices:
            key = status.device.key
            gate, breaker, verdicts = self.gates.get(key), self._breakers.get(key), self._verdicts.sentences(key)
            if gate is None and breaker is None and not verdicts:
                continue
            found.append(
                AdmissionStatus(
                    status.device.id,
                    running=gate.running if gate else 0,
                    waiting=gate.waiting if gate else 0,
                    limit=gate.limit if gate else self._most,
                    why=gate.why if gate else "",
                    breaker=breaker.state(now_s) if breaker else BreakerState.CLOSED,
                    problem=breaker.words(now_s) if breaker else "",
                    verdicts=verdicts,
                )
            )
        return tuple(found)

    def _circumstance(self, model: str, status: DeviceStatus, now_s: float, *, asked: bool) -> Circumstance:
        key = status.device.key
        standing = self._engine.standing(model, status.device)
        # A server may be back before the next probe of it: who names it finds out.
        barred = "" if asked and standing.server is not None else standing.problem
        if not barred and standing.server is None:
            barred = self._verdicts.kernels(key)
        if not barred and not asked:
            barred = self.held_back(key) or self._verdicts.memory(key, model, now_s)
        gate = self.gates.get(key)
        limit, why = (gate.limit, gate.why) if gate else limit_of(status, self.slots(standing))
        return Circumstance(
            pace=self._paces.get((key, model)),
            loaded=standing.loaded,
            running=max(gate.running if gate else 0, standing.running),
            waiting=gate.waiting if gate else standing.waiting,
            limit=max(1, min(limit, standing.slots)),
            limit_why=why,
            server=standing.server,
            barred=barred,
        )

    def _note_change(self, device: Device, before: BreakerState, breaker: Breaker, now_s: float) -> None:
        after = breaker.state(now_s)
        if after is BreakerState.OPEN and before is not BreakerState.OPEN:
            self._note(device, Severity.WARNING, f"no prompts go to it for now: {breaker.words(now_s)}")
        elif after is BreakerState.CLOSED and before is not BreakerState.CLOSED:
            self._note(device, Severity.INFO, "it answers again: prompts go to it as before")

    def _note(self, device: Device, severity: Severity, words: str) -> None:
        self._tell(Event(self._clock.now(), device.key, EventKind.DEVICE, severity, words, device.id))
