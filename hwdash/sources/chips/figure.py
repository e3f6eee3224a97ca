"""Numbers of one device: which files they come from, and what those say now."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hwdash.core.reading import Absent, Reading
from hwdash.sources.chips.file_read import FileReads
from hwdash.sources.chips.origin import Number, Origin, Reduce
from hwdash.sources.chips.place import Place
from hwdash.sources.chips.value import number_of, reduce_values

_NEEDS_ALL = frozenset({Reduce.SUM, Reduce.MEAN})
"""What would be wrong without one of its parts."""

Follow = Callable[[tuple[str, int], Reading, float], Reading]
"""What a counter makes of one raw number: which one it is (file and place in it), the number, the moment of its read."""


@dataclass(frozen=True, slots=True)
class _Way:
    """The files of one origin."""

    origin: Origin
    paths: tuple[str, ...]


class Figure:
    """One number of a profile at one device, with *rate* its growth per second. `aim` first, and again when files may
    have moved.

    ``tried`` is the file that the newest `read` ended with, for people; empty when there was none to read.
    """

    def __init__(self, number: Number, *, rate: bool = False) -> None:
        self._number = number
        self._rate = rate
        self._ways: tuple[_Way, ...] = ()
        self._declared: float | None = None
        self.tried = ""

    @property
    def declared(self) -> bool:
        """The number is a constant of the profile."""
        return self._number.declared is not None

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file of the number."""
        return tuple(path for way in self._ways for path in way.paths)

    def way(self, path: str) -> tuple[Origin, tuple[str, ...]]:
        """The origin that *path* belongs to, with all its files; one without files when there is none."""
        return next(((way.origin, way.paths) for way in self._ways if path in way.paths), (Origin(()), ()))

    def aim(self, place: Place, files: FileReads, facts: Mapping[str, str]) -> None:
        """Find the files at *place*; *facts* choose among declared constants."""
        declared = self._number.declared
        if declared is not None:
            self._declared = declared.table.get(facts.get(declared.by, "")) if declared.by else declared.value
        self._ways = tuple(_Way(origin, _files(origin, place, files)) for origin in self._number.origins)
        self.tried = next(iter(self.paths), "")

    def read(self, files: FileReads, follow: Follow | None = None) -> Reading:
        """The number in its base unit, of the first way that has one; else why the most telling way has none.

        *follow* makes of each raw number of a counter what may be added up; scale and unit come after it.
        """
        if self.declared:
            return Absent.NOT_SUPPORTED if self._declared is None else self._declared
        reason = Absent.NOT_SUPPORTED
        tried = ""
        for way in self._ways:
            reading = self._along(way, files, follow)
            if not isinstance(reading, Absent):
                return reading
            if reason is Absent.NOT_SUPPORTED:
                reason, tried = reading, self.tried
        self.tried = tried or self.tried
        return reason

    def _along(self, way: _Way, files: FileReads, follow: Follow | None) -> Reading:
        values: list[float] = []
        absent: Absent | None = None
        for path in way.paths:
            self.tried = path
            at_s = files.at_s(path)
            for index, number in enumerate(self._numbers(way.origin, path, files)):
                reading = number if follow is None else follow((path, index), number, at_s)
                if not isinstance(reading, Absent):
                    values.append(reading)
                elif absent is None:
                    absent = reading
        if not values or (absent is not None and way.origin.reduce in _NEEDS_ALL):
            return absent or Absent.NOT_SUPPORTED
        offset = 0.0 if self._rate else way.origin.offset
        value = (reduce_values(way.origin.reduce, values) * way.origin.scale + offset) * way.origin.factor
        return value if math.isfinite(value) else Absent.BAD_VALUE

    def _numbers(self, origin: Origin, path: str, files: FileReads) -> list[Reading]:
        """The raw numbers in a file, each checked; of a file that cannot be read, why."""
        pieces = files.pieces(path, origin.parse)
        if isinstance(pieces, Absent):
            return [pieces]
        return [self._checked(origin, piece) for piece in pieces]

    def _checked(self, origin: Origin, piece: str) -> Reading:
        mapped = self._number.mapping.get(piece)
        value = number_of(origin.parse.number, piece) if mapped is None else mapped
        if isinstance(value, Absent) or value in self._number.sentinels:
            return Absent.BAD_VALUE
        low, high = self._number.valid or (-math.inf, math.inf)
        number = float(value)
        return number if math.isfinite(number) and low <= number <= high else Absent.BAD_VALUE


def aimed(number: Number, place: Place, files: FileReads, facts: Mapping[str, str]) -> Figure:
    """The figure of *number* with its files found, for one who reads it once."""
    figure = Figure(number)
    figure.aim(place, files, facts)
    return figure


def _files(origin: Origin, place: Place, files: FileReads) -> tuple[str, ...]:
    """The files of *origin*: all that its paths stand for, or those among them whose label it names."""
    found = [path for template in origin.paths for path in place.paths(template, files)]
    if origin.labels:
        found = [path for path in found if files.first(f"{channel_of(path)}_label", None) in origin.labels]
    return tuple(found)


def channel_of(path: str) -> str:
    """The path of a sensor's channel, to which its files add a suffix: ``temp2`` of ``temp2_input``."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.rpartition('_')[0] or name}"
