"""The way of a prompt: the devices that suit it in turn, through their gates, to the engine and into the record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from hwdash.core.clock import Clock
from hwdash.core.device import Device
from hwdash.core.errors import EngineError, HwdashError, NoKernels, Overloaded, ServerDown
from hwdash.core.inference import (
    AUTO,
    FinishedEvent,
    FinishReason,
    Generation,
    InferenceRecord,
    PromptEvent,
    PromptRequest,
    Stage,
    StageEvent,
    TokenEvent,
)
from hwdash.core.requirement import Requirements
from hwdash.core.snapshot import DeviceStatus, LastRequest, Snapshot
from hwdash.daemon.account import Account, Arrival
from hwdash.daemon.bracket import Bracket
from hwdash.daemon.gate import Gate, Place
from hwdash.daemon.journey import Journey, Refusal
from hwdash.daemon.ledger import Ledger
from hwdash.daemon.loss import DeviceLeft, LossWatch
from hwdash.routing.choose import Candidate, choose

if TYPE_CHECKING:
    from hwdash.engine.engine import Engine
    from hwdash.monitor.broadcast import Broadcast
    from hwdash.monitor.monitor import Monitor
    from hwdash.store.store import Store

log = logging.getLogger(__name__)

Observer: TypeAlias = Callable[[InferenceRecord], None]
Follower: TypeAlias = Callable[[str, str], Callable[[TokenEvent], None]]

_LETTERS_PER_TOKEN = 3.5
"""Of English text in the usual vocabularies; enough for an estimate of the time and memory that a prompt takes."""
_LAST_RECORDS_S = 0.3


class Dispatcher:
    """Answers prompts. *observers* and *followers* are those of `hwdash.daemon.service.Service`.

    At most *max_queue* requests wait for one device. Once *stopping* is set, no failure is the device's. *first_snapshot* waits for a snapshot where none was made yet.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store,
        monitor: Monitor,
        snapshots: Broadcast[Snapshot],
        ledger: Ledger,
        first_snapshot: Callable[[], Awaitable[Snapshot]],
        observers: list[Observer],
        followers: list[Follower],
        stopping: asyncio.Event,
        max_queue: int,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._store = store
        self._monitor = monitor
        self._snapshots = snapshots
        self._ledger = ledger
        self._first_snapshot = first_snapshot
        self._observers = observers
        self._followers = followers
        self._max_queue = max_queue
        self._stopping = stopping
        self._clock = clock
        self._brackets: dict[str, set[Bracket]] = {}
        self._conclusions: set[asyncio.Task[InferenceRecord]] = set()
        self._crowd: tuple[Hashable, list[Gate]] | None = None

    async def prompt(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        """Answer *request* as `hwdash.daemon.service.Service.prompt` says."""
        journey = Journey(request, Arrival(self._clock.now(), self._clock.monotonic()))
        snapshot = await self._first_snapshot()
        wish = (request.device, request.model, request.requirements, snapshot.sequence)
        self._refuse_crowd(wish)
        candidates = await self._candidates(request, snapshot)
        for candidate in candidates:
            device = candidate.status.device
            server = self._engine.standing(request.model, device).server
            if journey.useless(server):
                continue
            try:
                async with aclosing(self._try(journey, candidate)) as events:
                    async for event in events:
                        yield event
            except HwdashError as error:
                journey.refusals.append(Refusal(device.id, server, error))
                if len(journey.full) == len(candidates):
                    self._crowd = (wish, journey.full)
                if self._stopping.is_set() or not journey.goes_on(error):
                    raise
            else:
                return
        raise journey.end()

    async def best(self, model: str, device: str) -> DeviceStatus:
        """The device on which a prompt for *model* that asks for *device* would be tried first. Raises as `choose` does."""
        snapshot = await self._first_snapshot()
        named = "" if device == AUTO else device
        knowledge = self._ledger.knowledge(model, snapshot, await self._ledger.shapes.find(model), named=named)
        return choose(snapshot, device, Requirements(model=model), knowledge).candidates[0].status

    async def close(self) -> None:
        """Wait a moment for the last records. To be called when the engine has ended and the store has not."""
        if self._conclusions:
            await asyncio.wait(self._conclusions, timeout=_LAST_RECORDS_S)
        self._ledger.shapes.close()

    def _refuse_crowd(self, wish: Hashable) -> None:
        """Raise `Overloaded` at once where the same *wish* found every gate full just now, and they still are."""
        if self._crowd is None or self._crowd[0] != wish:
            return
        gates = self._crowd[1]
        if all(gate.full for gate in gates):
            raise min((gate.refusal() for gate in gates), key=lambda error: error.retry_after_s)

    async def _candidates(self, request: PromptRequest, snapshot: Snapshot) -> tuple[Candidate, ...]:
        prompt_tokens = max(1, round(sum(len(turn.content) for turn in request.messages) / _LETTERS_PER_TOKEN))
        context = request.requirements.context_tokens or prompt_tokens + request.max_tokens
        requirements = replace(request.requirements, model=request.model, context_tokens=context)
        shape = await self._ledger.shapes.find(request.model)
        named = "" if request.device == AUTO else request.device
        knowledge = self._ledger.knowledge(request.model, snapshot, shape, prompt_tokens, request.max_tokens, named)
        return choose(snapshot, request.device, requirements, knowledge).candidates

    async def _try(self, journey: Journey, candidate: Candidate) -> AsyncGenerator[PromptEvent, None]:
        """Answer on one device. Raises what keeps it from that; the record of what it did is stored then, too."""
        status, request = candidate.status, journey.request
        device = status.device
        await self._check(request.model, status)
        place = self._enter(journey, status)
        account = self._open(journey, candidate)
        watch = LossWatch(self._snapshots, device)
        outcome: Generation | FinishReason = FinishReason.CANCELLED
        failure: HwdashError | None = None
        events = self._engine.generate(request, device)
        try:
            tell = [follow(device.key, request.model) for follow in self._followers]
            async with aclosing(self._wait(journey, device, place, watch)) as stages:
                async for stage in stages:
                    yield account.follow(stage)
            account.begin(journey.queued_s)
            while (event := await watch.next(events)) is not None:
                if isinstance(event, Generation):
                    outcome = event
                    continue
                if isinstance(event, TokenEvent):
                    if not journey.begun:
                        journey.begun = True
                        watch.close()
                    for follow in tell:
                        follow(event)
                yield account.follow(event)
            if not isinstance(outcome, Generation):
                raise EngineError(f"{device.id}: the engine ended without a result; see the log")
        except HwdashError as error:
            outcome, failure = FinishReason.ERROR, error
        except Exception:
            log.exception("prompt on %s failed", device.id)
            outcome, failure = FinishReason.ERROR, HwdashError(f"{device.id}: internal error; see the log")
        finally:
            watch.close()
            try:
                await events.aclose()
            finally:
                place.leave()
                if not self._stopping.is_set():
                    self._ledger.end(status, request.model, failure or isinstance(outcome, Generation))
                conclusion = self._concluding(account, outcome, failure)
        record = await asyncio.shield(conclusion)
        if failure is not None:
            raise failure
        yield FinishedEvent(record)

    async def _check(self, model: str, status: DeviceStatus) -> None:
        try:
            await self._engine.check(model, status.device)
        except (NoKernels, ServerDown) as error:
            self._ledger.end(status, model, error)
            raise

    def _enter(self, journey: Journey, status: DeviceStatus) -> Place:
        device, model = status.device, journey.request.model
        slots = self._ledger.slots(self._engine.standing(model, device))
        if (gate := self._ledger.gates.get(device.key)) is None:
            gate = self._ledger.gates[device.key] = Gate(device.id, self._max_queue, slots, self._clock)
        self._ledger.fit(gate, status, slots)
        try:
            place = gate.enter()
        except Overloaded:
            journey.full.append(gate)
            raise
        self._ledger.begin(device.key, model)
        return place

    def _open(self, journey: Journey, candidate: Candidate) -> Account:
        device = candidate.status.device
        peers = self._brackets.setdefault(device.key, set())
        bracket = Bracket(self._monitor, self._snapshots, device, peers, self._clock)
        route = journey.route(device.id, candidate.why)
        return Account(journey.request, device, route, bracket, self._clock, journey.arrival)

    async def _wait(
        self, journey: Journey, device: Device, place: Place, watch: LossWatch
    ) -> AsyncGenerator[StageEvent, None]:
        """Say where the request goes and what it waits for, until it is its turn.

        Raises `DeviceLeft` when the device is lost or fails others meanwhile.
        """
        since_s = self._clock.monotonic()
        try:
            if handover := journey.handover(device.id):
                yield StageEvent(Stage.STARTING, device.id, handover)
            while not place.admitted:
                words = place.words
                yield StageEvent(Stage.QUEUED, device.id, words)
                await watch.wait(place.moved(words))
                if journey.request.device == AUTO and (why := self._ledger.held_back(device.key)):
                    raise DeviceLeft(f"{device.id}: {why}")
        finally:
            journey.queued_s += self._clock.monotonic() - since_s

    def _concluding(
        self, account: Account, outcome: Generation | FinishReason, failure: HwdashError | None
    ) -> asyncio.Task[InferenceRecord]:
        """A task that stores the record: one of its own, so that a client that leaves does not take the record along."""
        task = asyncio.create_task(self._conclude(account, outcome, failure))
        self._conclusions.add(task)
        task.add_done_callback(self._conclusions.discard)
        return task

    async def _conclude(
        self, account: Account, outcome: Generation | FinishReason, failure: HwdashError | None
    ) -> InferenceRecord:
        record = await account.close(outcome, failure.message if failure else None)
        await self._store.add_record(record)
        if isinstance(outcome, Generation) and outcome.finish_reason in (FinishReason.STOP, FinishReason.LENGTH):
            timing, key = outcome.timing, record.device_key
            joules = None if record.energy is None else record.energy.joules_per_token
            self._ledger.learn(key, record.model, timing, joules)
            last = LastRequest(
                record.model, self._clock.now(), timing.warm_ttft_s, timing.tokens_per_s, timing.itl_p50_s
            )
            self._monitor.note_request(key, last)
        for observer in self._observers:
            try:
                observer(record)
            except Exception:
                log.exception("an observer of requests failed")
        return record
