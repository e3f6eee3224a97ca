"""The threads on which drivers are called, and what a call comes back with."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import TypeVar

from hwdash.core.clock import SYSTEM_CLOCK
from hwdash.core.device import Device
from hwdash.core.reading import Absent
from hwdash.core.sample import Sample
from hwdash.core.text import sanitise_line
from hwdash.monitor.mailbox import Letter, Mailbox
from hwdash.sources.source import DeviceLost, Source, SourceUnavailable

R = TypeVar("R")

log = logging.getLogger(__name__)

_ABSURD = 1e20
"""No metric reaches this in its base unit; a source that keeps to `hwdash.core.metric.BOUNDS` is stricter."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one read of the device *key* came to: a sample, or the driver's words for a loss or a failure.

    ``took_s`` is the time the driver needed, in seconds. ``late`` is true for a failure that is a timeout of the driver.
    """

    key: str
    took_s: float
    sample: Sample | None = None
    lost: str = ""
    error: str = ""
    late: bool = False


@dataclass(frozen=True, slots=True)
class Discovery:
    """What one discovery came to: the devices, or None where it failed, and the ``problem`` (empty: all is well).

    ``error`` holds the words of an exception that a source should not have raised.
    """

    devices: tuple[Device, ...] | None
    problem: str = ""
    error: str = ""


class Turn:
    """Lets the reads of one cycle run one after the other while drivers answer promptly.

    Readers that all start at once hand the interpreter's lock around at every driver call, which costs more than the
    calls. Nobody waits longer than `PATIENCE_S` for his turn, so one that hangs holds nobody up.
    """

    PATIENCE_S = 0.02

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def take(self, work: Callable[[], R]) -> R:
        """Wait for the turn, then do *work*. Blocks."""
        mine = self._lock.acquire(timeout=self.PATIENCE_S)
        try:
            return work()
        finally:
            if mine:
                self._lock.release()


def read(source: Source, keys: Sequence[str], fresh: bool = False) -> tuple[Outcome, ...]:
    """One read of each of *keys*, in turn, *fresh* as `Source.read` has it. Blocks, and never raises."""
    return tuple(_read_one(source, key, fresh) for key in keys)


def discover(source: Source) -> Discovery:
    """One discovery. Blocks, and never raises."""
    try:
        return Discovery(tuple(source.discover()), sanitise_line(source.problem, 400))
    except SourceUnavailable as problem:
        return Discovery(None, sanitise_line(str(problem), 400))
    except Exception as error:  # noqa: BLE001 - a driver may raise anything; logged where it is received
        words = words_of(error)
        return Discovery(None, f"finding devices failed: {words}", words)


def close(source: Source) -> None:
    """Close *source*. Blocks, and never raises."""
    try:
        source.close()
    except Exception:
        log.exception("closing source %s failed", source.name)


def _read_one(source: Source, key: str, fresh: bool) -> Outcome:
    started = SYSTEM_CLOCK.monotonic()
    try:
        sample = _possible(source.read(key, fresh))
    except DeviceLost as loss:
        return Outcome(key, SYSTEM_CLOCK.monotonic() - started, lost=sanitise_line(str(loss)) or "the device is gone")
    except TimeoutError as silence:
        words = sanitise_line(str(silence)) or "no answer"
        return Outcome(key, SYSTEM_CLOCK.monotonic() - started, error=words, late=True)
    except Exception as error:  # noqa: BLE001 - a driver may raise anything; logged where it is received
        return Outcome(key, SYSTEM_CLOCK.monotonic() - started, error=words_of(error))
    return Outcome(key, SYSTEM_CLOCK.monotonic() - started, sample)


def _possible(sample: Sample, low: float = -_ABSURD, high: float = _ABSURD) -> Sample:
    """*sample* without numbers that cannot be counted with."""
    numbers = [reading for reading in sample.readings.values() if not isinstance(reading, Absent)]
    # The sum of numbers of which one is NaN is NaN, and equals nothing.
    if not numbers or (low < min(numbers) and max(numbers) < high and (total := sum(numbers)) == total):
        return sample
    return replace(
        sample,
        readings={
            name: reading if isinstance(reading, Absent) or low < reading < high else Absent.BAD_VALUE
            for name, reading in sample.readings.items()
        },
    )


def words_of(error: Exception) -> str:
    """What went wrong, as one safe line."""
    return sanitise_line(f"{type(error).__name__}: {error}")


class Reader:
    """One daemon thread that carries out one order at a time, without ever queueing a second one.

    All methods are called on the loop; ``busy_since`` is the time of the machine's monotonic clock (also while a
    recording is played at another one) of the order that was not answered yet, None while there is none.
    """

    def __init__(self, name: str, mailbox: Mailbox) -> None:
        self.busy_since: float | None = None
        self.refreshing = False
        self._mailbox = mailbox
        self._orders: SimpleQueue[tuple[Callable[[], Letter], int | None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"hwdash-{name}", daemon=True)
        self._thread.start()

    def order(
        self, work: Callable[[], R], done: Callable[[R], None], ticket: int | None = None, *, refreshing: bool = False
    ) -> None:
        """Run *work* on the thread, then *done* with its result on the loop. Only for a reader that is not busy.

        *ticket* is from `Mailbox.expect`; without one the answer wakes the loop. *refreshing* marks a read out of
        turn.
        """
        assert self.busy_since is None, "a reader takes one order at a time"
        self.busy_since = SYSTEM_CLOCK.monotonic()
        self.refreshing = refreshing

        def carry_out() -> Letter:
            result = work()

            def letter() -> None:
                self.busy_since = None
                done(result)

            return letter

        self._orders.put((carry_out, ticket))

    def busy_for(self) -> float:
        """Seconds since the order that is not answered yet; 0 while idle."""
        return 0.0 if self.busy_since is None else SYSTEM_CLOCK.monotonic() - self.busy_since

    def end(self) -> None:
        """Let the thread end after its present order. Does not wait."""
        self._orders.put(None)

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            carry_out, ticket = order
            self._mailbox.post(carry_out(), ticket)
