"""``hwdash record``: what the dashboard shows, kept in a file that ``hwdash --replay`` plays."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

from hwdash import __version__
from hwdash.cli.recording_writer import RecordingWriter, check_place
from hwdash.cli.settings import with_client
from hwdash.client.client import Client
from hwdash.core.anonymous import Anonymiser
from hwdash.core.errors import DaemonUnreachable, UsageError
from hwdash.core.format import bytes_text, duration_text
from hwdash.core.recording import Header, encode_event, encode_header, encode_snapshot
from hwdash.core.snapshot import Snapshot

_FLUSH_S = 2.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CLOCK_SLACK_S = 1.0
_START_S = 30.0  # what a daemon may need until its first snapshot, on top of the time to record


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add ``record``."""
    parser = command("record", "write a recording that `hwdash --replay` plays, until Ctrl-C")
    parser.add_argument("file", metavar="FILE", type=Path, help="where to, such as session.hwdash.gz")
    parser.add_argument("--seconds", type=float, metavar="N", help="end after N seconds")
    parser.add_argument("--force", action="store_true", help="replace FILE if there is one")
    parser.add_argument(
        "--anonymise",
        action="store_true",
        help="leave out programs and PCI addresses, replace serial numbers by hashes",
    )
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    seconds: float | None = parsed.seconds
    if seconds is not None and not 0 < seconds <= 1e7:
        raise UsageError("--seconds: must be a number of seconds, more than 0", param="seconds")
    check_place(parsed.file, overwrite=parsed.force)
    return with_client(parsed, lambda client: _record(client, parsed, seconds))


async def _record(client: Client, parsed: argparse.Namespace, seconds: float | None) -> int:
    """Record until a signal, the end of the time, or the end of the daemon (then `DaemonUnreachable`)."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in _SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it
            loop.add_signal_handler(number, stop.set)
    recorder = Recorder(parsed.file, overwrite=parsed.force, anonymous=Anonymiser() if parsed.anonymise else None)
    following = asyncio.create_task(_follow(client, recorder, seconds))
    stopping = asyncio.create_task(stop.wait())
    try:
        patience_s = None if seconds is None else seconds + _START_S
        await asyncio.wait((following, stopping), timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        following.cancel()
        await asyncio.wait((following,))
    finally:
        await asyncio.to_thread(recorder.close)
        _clear_line()
    if not following.cancelled() and (error := following.exception()) is not None:
        if isinstance(error, DaemonUnreachable) and recorder.snapshots:
            print(f"hwdash: {recorder.summary}", file=sys.stderr)
        raise error
    if not recorder.snapshots:
        print("hwdash: nothing was recorded: no snapshot came", file=sys.stderr)
        return 1
    print(f"hwdash: {recorder.summary}", file=sys.stderr)
    return 0


async def _follow(client: Client, recorder: Recorder, seconds: float | None) -> None:
    async with aclosing(client.stream()) as snapshots:
        async for snapshot in snapshots:
            if snapshot.replay is not None:
                raise UsageError("that daemon plays a recording itself; record one that watches hardware")
            await asyncio.to_thread(recorder.add, snapshot)
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{recorder.progress}; Ctrl-C ends it\x1b[K")
                sys.stderr.flush()
            if seconds is not None and recorder.length_s >= seconds - 0.5 * snapshot.interval_s:
                return


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _clear_line() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")


class Recorder:
    """Writes each snapshot and each event once. The file is made when the first snapshot comes.

    `add` and `close` block, and may be called from several threads.
    """

    def __init__(self, path: Path, *, overwrite: bool, anonymous: Anonymiser | None) -> None:
        self.snapshots = 0
        self.events = 0
        self.length_s = 0.0
        self._path = path
        self._overwrite = overwrite
        self._anonymous = anonymous
        self._writer: RecordingWriter | None = None
        self._last: Snapshot | None = None
        self._last_s = 0.0
        self._flushed_s = 0.0
        self._event = 0
        self._closed = False
        self._lock = threading.Lock()

    @property
    def progress(self) -> str:
        """How far it is, in words."""
        size = self._writer.size if self._writer is not None else 0
        return f"{_count(self.snapshots, 'snapshot')}, {duration_text(self.length_s)}, {bytes_text(size)}"

    @property
    def summary(self) -> str:
        """What came of it, in words."""
        size = self._path.stat().st_size
        return (
            f"{self._path}: {_count(self.snapshots, 'snapshot')} over {duration_text(self.length_s)}, "
            f"{_count(self.events, 'event')}, {bytes_text(size)}"
        )

    def add(self, snapshot: Snapshot) -> None:
        """Write *snapshot*, unless it is there already, and the events that came with it.

        Raises `HwdashError` when the disk does not take it.
        """
        with self._lock:
            if not self._closed and (self._last is None or snapshot.sequence != self._last.sequence):
                self._add(snapshot)

    def close(self) -> None:
        """End the file; what comes afterwards is not written."""
        with self._lock:
            self._closed = True
            if self._writer is not None:
                self._writer.close()

    def _add(self, snapshot: Snapshot) -> None:
        now_s = time.monotonic()
        writer = self._writer or self._begin(snapshot)
        self._advance(snapshot, now_s)
        shown = self._anonymous.snapshot(snapshot) if self._anonymous else snapshot
        for event in snapshot.events:
            if event.number > self._event or (self.snapshots == 0 and event.at >= snapshot.taken_at):
                self._event = max(self._event, event.number)
                writer.write(encode_event(self._anonymous.event(event) if self._anonymous else event))
                self.events += 1
        writer.write(encode_snapshot(shown, self.length_s))
        self.snapshots += 1
        if self.snapshots == 1 or now_s - self._flushed_s >= _FLUSH_S:
            writer.flush()
            self._flushed_s = now_s

    def _begin(self, snapshot: Snapshot) -> RecordingWriter:
        self._writer = RecordingWriter(self._path, overwrite=self._overwrite)
        # Events from before the first snapshot belong to no recorded moment.
        self._event = max((event.number for event in snapshot.events), default=0)
        header = Header(snapshot.taken_at, snapshot.interval_s, __version__, anonymised=self._anonymous is not None)
        self._writer.write(encode_header(header))
        return self._writer

    def _advance(self, snapshot: Snapshot, now_s: float) -> None:
        """The place of *snapshot*: by the daemon's clock, or by the own one where that clock was set."""
        if self._last is not None:
            step_s = (snapshot.taken_at - self._last.taken_at).total_seconds()
            passed_s = now_s - self._last_s
            if abs(step_s - passed_s) > _CLOCK_SLACK_S + 0.5 * passed_s or step_s < 0:
                step_s = passed_s
            self.length_s += step_s
        self._last, self._last_s = snapshot, now_s
