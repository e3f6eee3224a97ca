"""What one entry of a profile's throttle list says about one device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from hwdash.core.reading import Absent, Reading
from hwdash.core.sample import Notice
from hwdash.core.throttle import ThrottleReason
from hwdash.sources.chips.decoder import DECODERS, Undecodable
from hwdash.sources.chips.figure import Figure
from hwdash.sources.chips.file_read import FileReads
from hwdash.sources.chips.gauge import Meter
from hwdash.sources.chips.metric import Throttle, ThrottleBit, ThrottleKind
from hwdash.sources.chips.origin import Number
from hwdash.sources.chips.place import Place
from hwdash.sources.chips.value import number_of
from hwdash.sources.sysfs import ReadFailure

_SPELL_S = 60.0
"""A counter that rises again within this many seconds still tells of the same spell: that is no news."""


@dataclass(frozen=True, slots=True)
class ThrottleState:
    """What was found: reasons that hold, all it would tell of, seconds per reason, words for what has no reason.

    ``absent`` says why nothing was found. ``shown`` is the finding for people.
    """

    flags: frozenset[ThrottleReason] = frozenset()
    known: frozenset[ThrottleReason] = frozenset()
    seconds: Mapping[ThrottleReason, float] = field(default_factory=lambda: MappingProxyType({}))
    unknown: tuple[str, ...] = ()
    notices: tuple[Notice, ...] = ()
    absent: Absent | None = None
    shown: str = ""


class Throttler:
    """One throttle entry at one device. For use by one thread."""

    def __init__(self, entry: Throttle) -> None:
        self.entry = entry
        self._figure = Figure(Number((entry.origin,)))
        self._meter = Meter(entry.counter, rate=False)
        self._last: float | None = None
        self._rose_s = float("-inf")
        self._decoder = DECODERS[entry.decoder]() if entry.kind is ThrottleKind.DECODER else None
        self._paths: tuple[str, ...] = ()
        self.tried = ""

    def aim(self, place: Place, files: FileReads) -> None:
        """Find the files at *place*."""
        self._figure.aim(place, files, {})
        self._meter.aim(place, files)
        self._paths = self._figure.paths
        self.tried = next(iter(self._paths), "")

    def rest(self) -> None:
        """The device cannot be read: counters begin anew afterwards."""
        self._last = None
        self._meter.forget()

    def read(self, files: FileReads) -> ThrottleState:
        """What the entry says now."""
        if not self._paths:
            return ThrottleState(absent=Absent.NOT_SUPPORTED)
        if self.entry.kind is ThrottleKind.DECODER:
            return self._decoded(files)
        if self.entry.kind is ThrottleKind.BITS:
            return self._bits(files)
        if self.entry.kind is ThrottleKind.FLAG:
            return self._flag(files)
        return self._counted(files)

    @property
    def _bit(self) -> ThrottleBit:
        return self.entry.bits[0]

    def _decoded(self, files: FileReads) -> ThrottleState:
        assert self._decoder is not None
        self.tried = self._paths[0]
        try:
            table = files.tree.data(self._paths[0])
            found = self._decoder.update(table, files.clock.monotonic())
        except ReadFailure as failure:
            return ThrottleState(absent=failure.reason)
        except Undecodable:
            return ThrottleState(absent=Absent.DRIVER_MISMATCH)
        if found.flags is None and not found.known:
            return ThrottleState(absent=Absent.NOT_SUPPORTED)
        flags = found.flags or frozenset()
        unknown = (found.unknown,) if found.unknown else ()
        return ThrottleState(flags, found.known | flags, found.seconds, unknown, shown=_names(flags))

    def _bits(self, files: FileReads) -> ThrottleState:
        value = 0
        for path in self._paths:
            self.tried = path
            pieces = files.pieces(path, self.entry.origin.parse)
            if isinstance(pieces, Absent):
                return ThrottleState(absent=pieces)
            for piece in pieces:
                number = number_of(self.entry.origin.parse.number, piece)
                if isinstance(number, Absent) or number < 0 or number != int(number) or number >= 2**64:
                    return ThrottleState(absent=Absent.BAD_VALUE)
                value |= int(number)
        active = [bit for number, bit in self.entry.bits.items() if value >> number & 1]
        rest = value & ~sum(1 << number for number in {*self.entry.bits, *self.entry.ignored})
        unknown = [bit.id for bit in active if bit.reason is ThrottleReason.UNKNOWN]
        if rest:
            unknown.append(f"{rest:#x}")
        known = frozenset(bit.reason for bit in self.entry.bits.values())
        flags = frozenset(bit.reason for bit in active)
        shown = ", ".join([*(bit.id for bit in active), *([f"{rest:#x}"] if rest else [])]) or "none"
        return ThrottleState(flags, known, unknown=tuple(unknown), shown=f"{value:#x}: {shown}")

    def _flag(self, files: FileReads) -> ThrottleState:
        bit = self._bit
        texts = [files.first(path, self.entry.origin.parse) for path in self._paths]
        if self.entry.equals is not None:
            held = [None if isinstance(text, Absent) else text == self.entry.equals for text in texts]
        else:
            numbers = [
                text if isinstance(text, Absent) else number_of(self.entry.origin.parse.number, text) for text in texts
            ]
            held = [None if isinstance(number, Absent) else number != 0 for number in numbers]
            texts = [number if isinstance(number, Absent) else "" for number in numbers]
        reason = next((text for text in texts if isinstance(text, Absent)), None)
        if not any(held) and reason is not None:
            self.tried = self._paths[texts.index(reason)]
            return ThrottleState(absent=reason)
        return self._state(bit, active=any(held), shown="active" if any(held) else "not active")

    def _counted(self, files: FileReads) -> ThrottleState:
        bit = self._bit
        total: Reading = self._figure.read(files, self._meter.follow)
        self.tried = self._figure.tried
        last, self._last = self._last, None if isinstance(total, Absent) else total
        if isinstance(total, Absent):
            return ThrottleState(absent=total)
        rise = total - last if last is not None else 0.0
        seconds = {}
        notices: tuple[Notice, ...] = ()
        if self.entry.kind is ThrottleKind.SECONDS:
            seconds = {bit.reason: total}
            shown = f"{total:g} s"
        else:
            shown = f"{total:g}"
            if rise > 0 and files.now_s - self._rose_s >= _SPELL_S:
                notices = (Notice(f"{bit.id}: {rise:g} more since the last look, {total:g} in all"),)
            if rise > 0:
                self._rose_s = files.now_s
        return self._state(bit, active=rise > 0, shown=shown, seconds=seconds, notices=notices)

    @staticmethod
    def _state(
        bit: ThrottleBit,
        *,
        active: bool,
        shown: str,
        seconds: Mapping[ThrottleReason, float] | None = None,
        notices: tuple[Notice, ...] = (),
    ) -> ThrottleState:
        flags = frozenset({bit.reason}) if active else frozenset[ThrottleReason]()
        unknown = (bit.id,) if active and bit.reason is ThrottleReason.UNKNOWN else ()
        return ThrottleState(flags, frozenset({bit.reason}), seconds or {}, unknown, notices, shown=shown)


def _names(flags: frozenset[ThrottleReason]) -> str:
    return ", ".join(sorted(flags)) or "none"
