"""The way of a prompt: the devices that suit it in turn, through their gates, to the engine and into the record."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from hwdash.core.clock import Clock
from hwdash.core.device import Device
from hwdash.core.errors import (
    EngineError,
    HwdashError,
    ModelError,
    NoKernels,
    Overloaded,
    ServerDown,
    UnknownDevice,
    UnknownModel,
)
from hwdash.core.inference import (
    AUTO,
    EngineEvent,
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
from hwdash.daemon.gate import Line, Place
from hwdash.daemon.group_bracket import GroupBracket
from hwdash.daemon.group_gate import GroupLine, GroupPlace
from hwdash.daemon.journey import Journey
from hwdash.daemon.ledger import Attempt, Ledger
from hwdash.daemon.loss import DeviceLeft, DeviceLost, LossWatch
from hwdash.daemon.meter import Meters
from hwdash.routing.choose import Candidate, choose

if TYPE_CHECKING:
    from hwdash.engine.engine import Engine
    from hwdash.monitor.broadcast import Broadcast
    from hwdash.monitor.monitor import Monitor
    from hwdash.store.store import Store

log = logging.getLogger(__name__)

Observer: TypeAlias = Callable[[InferenceRecord], None]
Follower: TypeAlias = Callable[[str, str], Callable[[TokenEvent], None]]

_BYTES_PER_TOKEN = 4.0
"""Of UTF-8, in most languages and vocabularies about; enough to estimate the time and memory that a prompt takes."""
_LAST_RECORDS_S = 0.3


@dataclass(frozen=True, slots=True)
class _Wish:
    """What decides which devices may take a request: two that wish the same find the same devices."""

    device: str
    model: str
    requirements: Requirements
    prompt_tokens: int
    answer_tokens: int
    sequence: int

    @classmethod
    def of(cls, request: PromptRequest, snapshot: Snapshot) -> _Wish:
        size = sum(len(turn.content.encode(errors="replace")) for turn in request.messages)
        prompt_tokens = max(1, round(size / _BYTES_PER_TOKEN))
        context = request.requirements.context_tokens or prompt_tokens + request.max_tokens
        requirements = replace(request.requirements, model=request.model, context_tokens=context)
        return cls(request.device, request.model, requirements, prompt_tokens, request.max_tokens, snapshot.sequence)


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
        self._meters = Meters(ledger.at_work)
        self._conclusions: set[asyncio.Task[InferenceRecord]] = set()
        self._crowd: tuple[_Wish, list[Line | GroupLine]] | None = None

    async def prompt(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        """Answer *request* as `hwdash.daemon.service.Service.prompt` says."""
        journey = Journey(request, Arrival(self._clock.now(), self._clock.monotonic()))
        snapshot = await self._first_snapshot()
        wish = _Wish.of(request, snapshot)
        self._refuse_crowd(wish)
        candidates = await self._candidates(wish, snapshot)
        for candidate in candidates:
            device = candidate.status.device
            server = self._engine.standing(request.model, device).server
            if server in journey.without:
                continue
            try:
                async with aclosing(self._try(journey, candidate, server)) as events:
                    async for event in events:
                        yield event
            except HwdashError as error:
                journey.refuse(device.id, server, error)
                if len(journey.full) == len(candidates):
                    self._crowd = (wish, journey.full)
                if self._stopping.is_set() or not journey.goes_on(error):
                    await journey.concluded()
                    raise
            else:
                return
        await journey.concluded()
        raise journey.end()

    async def best(self, model: str, device: str) -> DeviceStatus:
        """The device on which a prompt for *model* that asks for *device* would be tried first. Raises as `choose` does."""
        snapshot = await self._first_snapshot()
        named = "" if device == AUTO else device
        knowledge = self._ledger.knowledge(model, snapshot, await self._ledger.shapes.find(model), named=named)
        return choose(snapshot, device, Requirements(model=model), knowledge).candidates[0].status

    async def prewarm(self, model: str, device: str) -> None:
        """Load *model* on the device that `best` finds, in its turn: not while somebody has the device alone.

        Raises as `best` and the engine do, and `Overloaded` when too many requests wait there already.
        """
        status = await self.best(model, device)
        place = self._ledger.line(status, model, self._max_queue).enter()
        try:
            while not place.admitted:
                await place.moved(place.words)
            await self._engine.prewarm(model, status.device)
        finally:
            place.leave()

    async def watch(self) -> None:
        """Learn from all snapshots what devices draw while nothing runs on them."""
        await self._meters.watch(self._snapshots.subscribe())

    async def close(self) -> None:
        """Wait a moment for the last records. To be called when the engine has ended and the store has not."""
        if self._conclusions:
            await asyncio.wait(self._conclusions, timeout=_LAST_RECORDS_S)
        self._ledger.shapes.close()

    def _refuse_crowd(self, wish: _Wish) -> None:
        """Raise `Overloaded` at once where the same *wish* found every line full just now, and they still are."""
        if self._crowd is None or self._crowd[0] != wish:
            return
        lines = self._crowd[1]
        if all(line.full for line in lines):
            raise min((line.refusal() for line in lines), key=lambda error: error.retry_after_s)

    async def _candidates(self, wish: _Wish, snapshot: Snapshot) -> tuple[Candidate, ...]:
        shape = await self._ledger.shapes.find(wish.model)
        named = "" if wish.device == AUTO else wish.device
        knowledge = self._ledger.knowledge(
            wish.model, snapshot, shape, wish.prompt_tokens, wish.answer_tokens, named=named
        )
        return choose(snapshot, wish.device, wish.requirements, knowledge).candidates

    async def _try(
        self, journey: Journey, candidate: Candidate, server: str | None
    ) -> AsyncGenerator[PromptEvent, None]:
        """Answer on one device. Raises what keeps it from that; the record of what it did is on its way then."""
        status, request = candidate.status, journey.request
        device = status.device
        self._refuse_full(journey, status)
        await self._check(journey, status, server)
        place = self._refuse_full(journey, status).enter()
        account = self._open(journey, candidate, server)
        watch = LossWatch(self._snapshots, device)
        outcome: Generation | FinishReason = FinishReason.CANCELLED
        failure: HwdashError | None = None
        attempt: Attempt | None = None
        events = self._engine.generate(request, device)
        try:
            async with aclosing(self._wait(journey, device, place, watch)) as stages:
                async for stage in stages:
                    yield account.follow(stage)
            attempt = self._begin(journey, status)
            account.begin(journey.queued_s)
            async with aclosing(self._follow(journey, device, watch, events)) as told:
                async for event in told:
                    if isinstance(event, Generation):
                        outcome = event
                    else:
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
                if attempt is not None and not self._stopping.is_set():
                    self._ledger.end(attempt, failure or isinstance(outcome, Generation))
                # A device that it never came to did nothing that could be recorded.
                if attempt is not None or failure is None:
                    conclusion = self._concluding(journey, account, outcome, failure)
                else:
                    account.abandon()
        if failure is not None:
            raise failure
        yield FinishedEvent(await asyncio.shield(conclusion))

    async def _check(self, journey: Journey, status: DeviceStatus, server: str | None) -> None:
        """Raise what is sure to keep the device from answering, and remember it."""
        model = journey.request.model
        attempt = self._ledger.attempt(status, model)
        try:
            await self._engine.check(model, status.device)
        except (UnknownModel, ModelError):
            journey.without.add(server)
            raise
        except (NoKernels, ServerDown) as error:
            if not self._stopping.is_set():
                self._ledger.end(attempt, error)
            raise

    def _refuse_full(self, journey: Journey, status: DeviceStatus) -> Line | GroupLine:
        """The line for the request. Raises `Overloaded` when too many wait in it already."""
        line = self._ledger.line(status, journey.request.model, self._max_queue)
        if line.full:
            journey.full.append(line)
            raise line.refusal()
        return line

    def _open(self, journey: Journey, candidate: Candidate, server: str | None) -> Account:
        device, request = candidate.status.device, journey.request
        worker = f"{request.model} on {device.key}" if device.members else server or request.model
        brackets = [
            Bracket(self._monitor, self._snapshots, member, self._meters.of(member.key), worker, self._clock)
            for member in device.members or (device,)
        ]
        bracket = GroupBracket(brackets) if device.members else brackets[0]
        route = journey.route(device.id, candidate.why)
        return Account(request, device, route, bracket, self._clock, journey.arrival, served=server is not None)

    async def _wait(
        self, journey: Journey, device: Device, place: Place | GroupPlace, watch: LossWatch
    ) -> AsyncGenerator[StageEvent, None]:
        """Say where the request goes and what it waits for, until it is its turn.

        Raises `DeviceLeft` when the device is lost meanwhile, and as `_refuse_held_back` does when it fails others.
        """
        since_s = self._clock.monotonic()
        try:
            if handover := journey.handover(device.id):
                yield StageEvent(Stage.STARTING, device.id, handover)
            while not place.admitted:
                words = place.words
                yield StageEvent(Stage.QUEUED, device.id, words)
                await watch.wait(place.moved(words))
                self._refuse_held_back(journey, device)
        except DeviceLost as error:
            raise DeviceLeft(error.message) from None
        finally:
            journey.queued_s += self._clock.monotonic() - since_s

    def _refuse_held_back(self, journey: Journey, device: Device) -> None:
        """Raise `Overloaded` where requests are kept away from the device for a while that did not name it."""
        why, wait_s = self._ledger.held_back(device.key, journey.request.model) if journey.free else ("", 0.0)
        if why:
            raise Overloaded(f"{device.id}: {why}", retry_after_s=max(1.0, wait_s))

    def _begin(self, journey: Journey, status: DeviceStatus) -> Attempt:
        """The attempt that begins now, by the device's newest status. Raises as `_refuse_held_back` does."""
        self._refuse_held_back(journey, status.device)
        if (latest := self._snapshots.latest) is not None:
            with contextlib.suppress(UnknownDevice):
                status = latest.find(status.device.key)
        return self._ledger.begin(status, journey.request.model)

    async def _follow(
        self, journey: Journey, device: Device, watch: LossWatch, events: AsyncGenerator[EngineEvent, None]
    ) -> AsyncGenerator[EngineEvent, None]:
        """The *events* of the engine; before the first token, `DeviceLost` is raised when the device is lost."""
        tell = [follow(device.key, journey.request.model) for follow in self._followers]
        while (event := await watch.next(events)) is not None:
            if isinstance(event, TokenEvent):
                if not journey.begun:
                    journey.begun = True
                    watch.close()
                for follow in tell:
                    follow(event)
            yield event

    def _concluding(
        self, journey: Journey, account: Account, outcome: Generation | FinishReason, failure: HwdashError | None
    ) -> asyncio.Task[InferenceRecord]:
        """A task that stores the record: one of its own, so that a client that leaves does not take the record along."""
        task = asyncio.create_task(self._conclude(account, outcome, failure, journey.conclusion))
        journey.conclusion = task
        self._conclusions.add(task)
        task.add_done_callback(self._concluded)
        return task

    def _concluded(self, task: asyncio.Task[InferenceRecord]) -> None:
        self._conclusions.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the record of a request is lost: %r", error)

    async def _conclude(
        self,
        account: Account,
        outcome: Generation | FinishReason,
        failure: HwdashError | None,
        before: asyncio.Task[InferenceRecord] | None,
    ) -> InferenceRecord:
        """Store the record and tell of it, after the one *before* it of the same request."""
        record = await account.close(outcome, failure.message if failure else None)
        if before is not None:
            await asyncio.wait({before})
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
