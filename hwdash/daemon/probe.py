"""Probes: short prompts that hwdash itself sends, to see whether a device still answers, as fast, and the same."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hwdash.core.clock import Clock
from hwdash.core.config import Config
from hwdash.core.errors import EngineError, HwdashError, PromptTooLong, UsageError
from hwdash.core.event import Event, EventKind, Severity
from hwdash.core.group import group_names
from hwdash.core.health import HealthState
from hwdash.core.inference import Generation, PromptRequest, Stage, StageEvent, TokenEvent
from hwdash.core.probe import ProbeOutcome, ProbeRequest, ProbeResult, UptimeHistory
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.daemon.ledger import Ledger
from hwdash.daemon.parts import Models
from hwdash.daemon.probe_setting import ProbeSettings, question

if TYPE_CHECKING:
    from hwdash.engine.engine import Engine, Standing
    from hwdash.monitor.broadcast import Broadcast
    from hwdash.monitor.monitor import Monitor
    from hwdash.store.store import Store

log = logging.getLogger(__name__)

TOKEN_S = 30.0
"""A probe that waits longer for a token has failed."""
QUIET_BELOW = 0.25
"""A device is otherwise idle below this utilization; the time of a probe beside other work says nothing of the device."""
_HOLD_WORDS = "a probe is running"
_LASTS_S = 2.0
_FIRST_SNAPSHOT_S = 15.0
_LOADING = frozenset({Stage.STARTING, Stage.LOADING})


class _Unloaded(HwdashError):
    """The model went while it was to be probed; a probe does not load it again."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a question was answered with."""

    generation: Generation
    digest: str


class Prober:
    """Probes each loaded model on each device in turn, every ``probes.interval_s`` once, while the device has nothing to do.

    *best* finds the device for a probe that is asked for, *tell* takes events, *sleep* is that of asyncio but in tests.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store,
        monitor: Monitor,
        models: Models,
        snapshots: Broadcast[Snapshot],
        ledger: Ledger,
        best: Callable[[str, str], Awaitable[DeviceStatus]],
        config: Config,
        tell: Callable[[Event], None],
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._engine = engine
        self._store = store
        self._monitor = monitor
        self._snapshots = snapshots
        self._ledger = ledger
        self._best = best
        self._config = config
        self._tell = tell
        self._clock = clock
        self._sleep = sleep
        self._book = ledger.probes
        self._settings = ProbeSettings(models.resolve, config.probes.max_tokens)
        self._turns: dict[tuple[str, str], int] = {}
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._seeding: asyncio.Task[None] | None = None
        self._closing = False

    async def run(self) -> None:
        """Probe on schedule until cancelled: of n pairs of device and model, one every n-th part of the interval."""
        await self._seeded()
        interval_s = self._config.probes.interval_s
        while interval_s:
            await self._sleep(interval_s / max(1, len(self.pairs())))
            self.turn()

    async def close(self) -> None:
        """Break off what is under way; nothing of it is recorded. To be called before the engine is closed."""
        self._closing = True
        tasks = [*self._running.values(), *([self._seeding] if self._seeding is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def pairs(self) -> dict[tuple[str, str], DeviceStatus]:
        """The keys of devices and the models that are loaded there now, each with the device's newest status."""
        latest = self._snapshots.latest
        statuses = {status.device.id: status for status in (latest.devices if latest is not None else ())}
        found = {}
        for worker in self._engine.workers():
            status = statuses.get(worker.device)
            if latest is not None and group_names(worker.device):
                with contextlib.suppress(UsageError):
                    status = latest.find(worker.device)
            if status is not None and self._engine.standing(worker.model, status.device).loaded:
                found[status.device.key, worker.model] = status
        return found

    def turn(self) -> asyncio.Task[None] | None:
        """Begin the probe whose turn it is; None where there is none, or its device has something to do."""
        pairs = self.pairs()
        self._turns = {pair: turn for pair, turn in self._turns.items() if pair in pairs}
        pair = min(pairs, key=lambda item: (self._turns.get(item, 0), item), default=None)
        if pair is None or self._closing:
            return None
        self._turns[pair] = max(self._turns.values(), default=0) + 1
        status, model = pairs[pair], pair[1]
        if pair in self._running or not _is_idle(self._engine.standing(model, status.device)):
            return None
        line = self._ledger.line(status, model, self._config.engine.max_queue)
        stack = ExitStack()
        hold = line.gate.try_hold(_HOLD_WORDS, lambda: self._give_way(pair, stack), _LASTS_S)
        if hold is None:
            return None
        stack.enter_context(hold)
        task = self._running[pair] = asyncio.create_task(self._scheduled(status, model))
        stack.callback(self._running.pop, pair, None)
        task.add_done_callback(lambda _: stack.close())
        return task

    async def probe(self, request: ProbeRequest) -> ProbeResult:
        """One probe now, of a model that is loaded for it if it must be; gives what came of it, which is recorded.

        Raises as a prompt does where it never came to the probe, and `Overloaded` while somebody has the device alone.
        """
        await self._seeded()
        model = request.model or self._config.engine.model
        status = await self._best(model, request.device)
        await self._engine.check(model, status.device)
        gate = self._ledger.line(status, model, self._config.engine.max_queue).gate
        async with gate.hold(_HOLD_WORDS, _LASTS_S):
            status = self._now(status)
            if status.health.state is not HealthState.LOST:
                try:
                    await self._engine.prewarm(model, status.device)
                except PromptTooLong:
                    raise
                except EngineError as error:
                    return await self._conclude(self._failed(status, model, error.message), "", quiet=False)
            return await self._measure(self._now(status), model, accept=request.accept, loads=True)

    async def uptime(self, since_s: float, device_key: str | None, ids: Mapping[str, str]) -> UptimeHistory:
        """How the devices stood their probes; see `hwdash.store.store.Store.uptime`."""
        await self._seeded()
        history = await self._store.uptime(since_s, device_key, ids)
        uptimes = []
        for item in history.uptimes:
            baseline_s, drift = self._book.pace(item.device_key, item.model)
            uptimes.append(replace(item, baseline_itl_s=baseline_s, drift=drift))
        return replace(history, uptimes=tuple(uptimes))

    def newest(self) -> tuple[tuple[ProbeResult, float | None], ...]:
        """The newest probe of each model that is loaded, and the drift of the newest ones; none of what was never probed."""
        found = ((self._book.newest(*pair), self._book.pace(*pair)[1]) for pair in sorted(self.pairs()))
        return tuple((result, drift) for result, drift in found if result is not None)

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each loaded model whose newest probes were not well."""
        return self._book.sentences(sorted(self.pairs()))

    async def _seeded(self) -> None:
        """Return when the probes of earlier days are known, or cannot be."""
        if self._seeding is None:
            self._seeding = asyncio.create_task(self._seed())
        await asyncio.shield(self._seeding)

    async def _seed(self) -> None:
        ids = {status.device.key: status.device.id for status in await self._first_devices()}
        try:
            self._book.seed(await self._store.recent_probes(ids))
        except HwdashError as error:
            log.warning("earlier probes are not known: %s", error.message)

    async def _first_devices(self) -> tuple[DeviceStatus, ...]:
        """The devices as soon as there is a snapshot; none where it does not come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_SNAPSHOT_S), aclosing(self._snapshots.subscribe()) as snapshots:
                async for snapshot in snapshots:
                    return snapshot.devices
        return ()

    def _now(self, status: DeviceStatus) -> DeviceStatus:
        """The newest status of the device in *status*: while a probe waited or loaded, much may have changed."""
        if (latest := self._snapshots.latest) is not None:
            with contextlib.suppress(UsageError):
                return latest.find(status.device.key)
        return status

    def _give_way(self, pair: tuple[str, str], stack: ExitStack) -> None:
        """A request has come: it has the device at once, and the probe was none."""
        if (task := self._running.get(pair)) is not None:
            task.cancel()
        stack.close()

    async def _scheduled(self, status: DeviceStatus, model: str) -> None:
        try:
            await self._measure(status, model)
        except HwdashError as error:
            log.debug("no probe of %s on %s: %s", model, status.device.id, error.message)
        except Exception:
            log.exception("probe of %s on %s failed", model, status.device.id)

    async def _measure(
        self, status: DeviceStatus, model: str, *, accept: bool = False, loads: bool = False
    ) -> ProbeResult:
        """Ask once, and once more where the answer is not the one that is expected: a tie may break otherwise for once."""
        device = status.device
        standing = self._engine.standing(model, device)
        workers = (item for item in self._engine.workers() if (item.device, item.model) == (device.id, model))
        driver = await self._settings.text(device, model, standing.server, next(workers, None))
        if status.health.state is HealthState.LOST:
            return await self._conclude(self._failed(status, model, _lost_words(status)), driver, quiet=False)
        chat = standing.server is not None
        request = question(model, device, self._config.probes.max_tokens, chat=chat)
        utilization = status.number("utilization")
        quiet = utilization is not None and utilization < QUIET_BELOW
        base = self._failed(status, model, "")
        try:
            answer = await self._ask(request, status, loads=loads)
            setting = (answer.generation.dtype, driver)
            today = base.at.astimezone().date() if chat else None
            expected = self._book.expected(device.key, model, setting, today)
            if expected and answer.digest != expected and not accept:
                answer = await self._ask(request, status, loads=loads)
        except (_Unloaded, PromptTooLong):
            raise
        except EngineError as error:
            return await self._conclude(replace(base, error=error.message), driver, quiet=False)
        wrong = bool(expected) and answer.digest != expected and not accept
        result = _result(base, answer, expected, ProbeOutcome.WRONG if wrong else ProbeOutcome.OK)
        usual = self._book.usual(device.key, model, setting)
        if usual is not None and result.itl_s is not None and quiet and not wrong:
            result = replace(result, drift=result.itl_s / usual.baseline_s - 1.0)
            counts_s = 3.0 * self._config.probes.interval_s
            self._monitor.note_probe(device.key, model, result.itl_s or 0.0, usual, counts_s)
        return await self._conclude(result, driver, quiet=quiet)

    async def _ask(self, request: PromptRequest, status: DeviceStatus, *, loads: bool) -> _Answer:
        """The answer to *request*. Raises `EngineError` where there is none, and `_Unloaded` rather than have it loaded."""
        device, text = status.device, hashlib.blake2b(digest_size=16)
        if not loads and not self._engine.standing(request.model, device).loaded:
            raise _Unloaded(f"{request.model} is not loaded on {device.id} any more")
        async with aclosing(self._engine.generate(request, device)) as events:
            while True:
                try:
                    async with asyncio.timeout(TOKEN_S):
                        event = await anext(events, None)
                except TimeoutError:
                    raise EngineError(f"{device.id}: no token within {TOKEN_S:g} s") from None
                if event is None:
                    raise EngineError(f"{device.id}: the engine ended without a result; see the log")
                if isinstance(event, Generation):
                    return _Answer(event, event.digest or text.hexdigest())
                if isinstance(event, TokenEvent):
                    text.update(event.text.encode(errors="replace"))
                elif isinstance(event, StageEvent) and event.stage in _LOADING and not loads:
                    raise _Unloaded(f"{request.model} is not loaded on {device.id} any more")

    def _failed(self, status: DeviceStatus, model: str, words: str) -> ProbeResult:
        device = status.device
        return ProbeResult(self._clock.now(), device.id, device.key, model, ProbeOutcome.FAILED, error=words)

    async def _conclude(self, result: ProbeResult, driver: str, *, quiet: bool) -> ProbeResult:
        """Take *result* in, say so where things have changed, and store it; nothing of that while the daemon ends."""
        if self._closing:
            raise EngineError("the daemon is shutting down")
        before = self._book.newest(result.device_key, result.model)
        self._book.add(result, driver, quiet=quiet)
        words = _news(before.outcome if before is not None else ProbeOutcome.OK, result)
        if words:
            severity = Severity.INFO if result.outcome is ProbeOutcome.OK else Severity.WARNING
            severity = Severity.CRITICAL if result.outcome is ProbeOutcome.WRONG else severity
            event = Event(result.at, result.device_key, EventKind.DEVICE, severity, words, result.device)
            self._tell(event)
        await self._store.add_probe(result, driver)
        return result


def _is_idle(standing: Standing) -> bool:
    return not standing.running and not standing.waiting


def _lost_words(status: DeviceStatus) -> str:
    return "; ".join(status.health.reasons) or "the device is lost"


def _result(base: ProbeResult, answer: _Answer, expected: str, outcome: ProbeOutcome) -> ProbeResult:
    """*base* with what was answered. Times are without queue and cold start, as the engine tells them."""
    made, timing = answer.generation, answer.generation.timing
    waited_s = (timing.queue_s or 0.0) + (timing.cold_start_s or 0.0)
    return replace(
        base,
        outcome=outcome,
        ttft_s=timing.warm_ttft_s,
        itl_s=timing.itl_p50_s or (1.0 / timing.tokens_per_s if timing.tokens_per_s else None),
        total_s=None if timing.total_s is None else max(0.0, timing.total_s - waited_s),
        tokens=made.tokens.completion,
        dtype=made.dtype,
        digest=answer.digest,
        expected=expected,
        error=None,
    )


def _news(before: ProbeOutcome, result: ProbeResult) -> str:
    """What is new with *result* after a probe that came out as *before*; empty when nothing is."""
    if result.outcome is before:
        return ""
    match result.outcome:
        case ProbeOutcome.OK:
            return f"probes of {result.model} are well again"
        case ProbeOutcome.WRONG:
            return f"probe of {result.model}: answered twice with other tokens than before; do not trust its answers"
        case ProbeOutcome.FAILED:
            return f"probe of {result.model} failed: {result.error}"
