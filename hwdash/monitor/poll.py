"""Who is asked when: the orders to the readers, cycle by cycle, and what becomes of their answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from hwdash.core.clock import Clock
from hwdash.core.sample import Sample
from hwdash.monitor.complaint import Complaints
from hwdash.monitor.mailbox import Bell, Mailbox
from hwdash.monitor.reader import Discovery, Outcome, Reader, Turn, close, discover, read, words_of
from hwdash.monitor.registry import Registry, Watch
from hwdash.monitor.track import Line, Track
from hwdash.sources.source import Source

log = logging.getLogger(__name__)

_STOP_PATIENCE_S = 0.1

Wanted = dict[str, list["asyncio.Future[Sample | None]"]]


class Poll:
    """The readers of all sources. Lives on the loop that it is made on, and fills *registry*.

    Sources are searched again every *rescan_s*; a lost device is asked again every *lost_retry_s*.
    """

    def __init__(
        self, sources: Sequence[Source], registry: Registry, clock: Clock, rescan_s: float, lost_retry_s: float
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._rescan_s = rescan_s
        self._lost_retry_s = lost_retry_s
        self._complaints = Complaints(log, clock)
        self._mailbox = Mailbox(asyncio.get_running_loop())
        self._pending: set[Reader] = set()
        self._overtaken: set[Reader] = set()
        self._all_in = Bell()
        self._turn = Turn()
        self._cycle = 0
        self._stopping = False
        self.watches = tuple(
            Watch(number, source, self._new_reader(source.name)) for number, source in enumerate(sources)
        )

    async def cycle(self, patience_s: float) -> bool:
        """Order a read of every device whose reader is free; wait until all have answered, at most *patience_s*.

        False when somebody is still silent. What comes later is taken in with the next cycle.
        """
        self._mailbox.deliver()
        self._mailbox.begin()
        self._turn = Turn()
        self._cycle += 1
        now_s = self._clock.monotonic()
        for watch in self.watches:
            if watch.line.reader.busy_since is None and now_s >= watch.rescan_at_s:
                self._discover(watch, now_s)
            for line in watch.lines:
                self._ask(line)
        if self._mailbox.seal():
            self._mailbox.deliver()
        until = asyncio.get_running_loop().time() + patience_s
        while self._pending and await self._all_in.wait(until):
            pass
        complete = not self._pending
        self._pending.clear()
        self._mailbox.deliver()
        return complete

    def rewind(self) -> None:
        """The clock has jumped: take in the answers of before, and search all sources in the next cycle.

        What was asked before and is answered later says nothing of the new time: it is left out.
        """
        self._mailbox.deliver()
        self._overtaken = {
            line.reader for watch in self.watches for line in watch.lines if line.reader.busy_since is not None
        }
        for watch in self.watches:
            watch.rescan_at_s = float("-inf")

    async def refresh(self, track: Track, timeout_s: float, deadline_s: float) -> Sample | None:
        """A sample that is read after this call began; None when there is none within *timeout_s*.

        None at once when the device is lost, or when a call to its driver has hung for *deadline_s*.
        """
        with self._mailbox.eager():
            if track.lost or track.line.reader.busy_for() > deadline_s:
                return None
            answer: asyncio.Future[Sample | None] = asyncio.get_running_loop().create_future()
            track.wanted.append(answer)
            self._serve(track.line)
            try:
                async with asyncio.timeout(timeout_s):
                    return await answer
            except TimeoutError:
                return None
            finally:
                if answer in track.wanted:
                    track.wanted.remove(answer)

    async def stop(self) -> None:
        """Close each source of which no call hangs, and let the threads end. Takes 0.2 s at most."""
        self._stopping = True
        lines = [line for watch in self.watches for line in watch.lines]
        with self._mailbox.eager():
            await self._settle(lines)
            closable = [watch for watch in self.watches if all(line.reader.busy_since is None for line in watch.lines)]
            for watch in closable:
                watch.line.reader.order(partial(close, watch.source), partial(self._closed, watch.line))
            await self._settle([watch.line for watch in closable])
        for line in lines:
            line.reader.end()

    async def _settle(self, lines: Sequence[Line]) -> None:
        self._pending = {line.reader for line in lines if line.reader.busy_since is not None}
        until = asyncio.get_running_loop().time() + _STOP_PATIENCE_S
        while self._pending and await self._all_in.wait(until):
            pass

    def _new_reader(self, name: str) -> Reader:
        return Reader(name, self._mailbox)

    def _discover(self, watch: Watch, now_s: float) -> None:
        """Search *watch* on its thread. Waited for only where nothing can be read before: the first time, or a shared thread."""
        watch.rescan_at_s = now_s + self._rescan_s
        watch.discovering = True
        watch.line.reader.order(partial(discover, watch.source), partial(self._discovered, watch))
        if self._cycle == 1 or not watch.source.per_device:
            self._pending.add(watch.line.reader)

    def _discovered(self, watch: Watch, discovery: Discovery) -> None:
        watch.discovering = False
        try:
            if not self._is_overtaken(watch.line) and not self._stopping:
                self._registry.learn(watch, discovery, self._new_reader)
                if watch.line.reader in self._pending:
                    for line in watch.lines:
                        self._ask(line)
        finally:
            self._finish(watch.line)

    def _ask(self, line: Line) -> None:
        """Order a read of the devices of *line* that this cycle has not asked yet."""
        reader = line.reader
        if reader.busy_since is not None:
            if reader.refreshing or reader in self._overtaken:
                self._pending.add(reader)
            return
        now_s = self._clock.monotonic()
        due = [track for track in line.tracks if track.due(self._cycle, now_s)]
        if not due:
            return
        for track in due:
            track.asked = self._cycle
        line.took_s = None
        keys = tuple(track.device.key for track in due)
        self._pending.add(reader)
        reader.order(
            partial(self._turn.take, partial(read, line.source, keys)),
            partial(self._answered, line),
            self._mailbox.expect(),
        )

    def _answered(self, line: Line, outcomes: Sequence[Outcome]) -> None:
        line.took_s = sum(outcome.took_s for outcome in outcomes)
        if not self._is_overtaken(line):
            retry_at_s = self._clock.monotonic() + self._lost_retry_s
            for outcome in outcomes:
                self._take_in(line, outcome, retry_at_s)
        self._finish(line)

    def _take_in(self, line: Line, outcome: Outcome, retry_at_s: float) -> None:
        track = self._registry.get(outcome.key)
        try:
            if track is not None:
                track.accept(outcome, retry_at_s)
        except Exception as error:
            log.exception("the sample of %s could not be taken in", outcome.key)
            if track is not None:
                track.fail(words_of(error))
        if outcome.error:
            self._complaints.say(f"{line.source.name}: reading {outcome.key} failed: {outcome.error}")

    def _is_overtaken(self, line: Line) -> bool:
        """True for the one answer of *line* that was asked for before the clock jumped."""
        overtaken = line.reader in self._overtaken
        self._overtaken.discard(line.reader)
        return overtaken

    def _serve(self, line: Line) -> None:
        """Order the reads out of turn that somebody waits for, once the reader is free."""
        if line.reader.busy_since is not None:
            return
        wanted: Wanted = {}
        for track in line.tracks:
            if track.wanted:
                wanted[track.device.key], track.wanted = track.wanted, []
        if wanted:
            work = partial(read, line.source, tuple(wanted), fresh=True)
            line.reader.order(work, partial(self._refreshed, line, wanted), refreshing=True)

    def _refreshed(self, line: Line, wanted: Wanted, outcomes: Sequence[Outcome]) -> None:
        overtaken = self._is_overtaken(line)
        for outcome in outcomes:
            for answer in wanted[outcome.key]:
                if not answer.done():
                    answer.set_result(outcome.sample)
            if outcome.sample is None or overtaken or (track := self._registry.get(outcome.key)) is None:
                continue
            try:
                track.hear(outcome.sample)
            except Exception:
                log.exception("the sample of %s, read out of turn, could not be taken in", outcome.key)
        self._finish(line)

    def _closed(self, line: Line, _: None) -> None:
        self._finish(line)

    def _finish(self, line: Line) -> None:
        """The reader of *line* is free: give it what else this cycle or somebody else wants of it."""
        if line.reader.busy_since is None and line.reader in self._pending:
            self._pending.discard(line.reader)
            if not self._stopping:
                self._ask(line)
        if not self._stopping:
            self._serve(line)
        if not self._pending:
            self._all_in.ring()
