"""Why a part of a profile has no value, and the raw text of one that has. For checks, not for every tick."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hwdash.core.reading import Absent, Reading, is_present
from hwdash.core.text import sanitise_line
from hwdash.sources.chips.fact import passes
from hwdash.sources.chips.figure import Figure, aimed, channel_of
from hwdash.sources.chips.file_cause import file_cause
from hwdash.sources.chips.file_read import FileReads
from hwdash.sources.chips.metric import Metric
from hwdash.sources.chips.origin import Fact, Number, Origin, Parse, ParseKind, PartKind, Template
from hwdash.sources.chips.place import Place
from hwdash.sources.chips.quantity import Dimension
from hwdash.sources.chips.template import anchors_of
from hwdash.sources.chips.value import load_document, number_of

_MOST_PIECES = 4
_WHY_LENGTH = 240
_TEXT = Parse(ParseKind.TEXT)

_SYMBOLS = {
    Dimension.TEMPERATURE: " °C",
    Dimension.POWER: " W",
    Dimension.ENERGY: " J",
    Dimension.FREQUENCY: " Hz",
    Dimension.BYTES: " B",
    Dimension.BYTE_RATE: " B/s",
    Dimension.SPEED: " rpm",
    Dimension.VOLTAGE: " V",
    Dimension.CURRENT: " A",
}


class Inquiry:
    """Questions about one device at *place*, answered from what *files* has read and, where it failed, the files again.

    Every answer is one safe line, empty when there is nothing to say.
    """

    def __init__(self, sysroot: Path, place: Place, facts: Mapping[str, str], files: FileReads) -> None:
        self._sysroot = sysroot
        self._place = place
        self._facts = facts
        self._files = files

    def raw(self, number: Number) -> str:
        """The text, or texts, that *number* was made of, each in quotes; at most some of them."""
        figure = self._figure(number)
        figure.read(self._files)
        origin, paths = figure.way(figure.tried)
        found = [
            quoted(piece, 24)
            for path in paths[:_MOST_PIECES]
            if not isinstance(pieces := self._files.pieces(path, origin.parse), Absent)
            for piece in pieces[: _MOST_PIECES + 1]
        ]
        return " ".join([*found[:_MOST_PIECES], *(["…"] if max(len(found), len(paths)) > _MOST_PIECES else [])])

    def metric(self, metric: Metric, dimension: Dimension) -> str:
        """Why *metric* is absent."""
        number = metric.number
        if (why := self._guard(metric)) or (why := self.number(number)):
            return why
        if metric.rate:
            return "" if metric.counter is None else "its growth per second is not plausible, or it went back"
        value = self.value(number)
        return implausible(value, dimension) if is_present(value) else ""

    def number(self, number: Number) -> str:
        """Why *number* cannot be read; empty when it can."""
        if number.declared is not None:
            by = number.declared.by
            text = self._facts.get(by, "") if by else ""
            known = not by or text in number.declared.table
            return "" if known else _line(f"the profile's table has nothing for the {by} {quoted(text)}")
        figure = self._figure(number)
        if not isinstance(figure.read(self._files), Absent):
            return ""
        if not figure.paths:
            return self.paths([template for origin in number.origins for template in origin.paths], number.origins)
        origin, paths = figure.way(figure.tried)
        for path in paths:
            if why := self._file(number, origin, path):
                return _line(why if path == figure.tried else f"/{path}: {why}")
        return ""

    def paths(self, templates: list[Template], origins: tuple[Origin, ...] = ()) -> str:
        """Why the first of *templates* stands for no file at all."""
        labels = [label for origin in origins for label in origin.labels]
        for template in templates:
            if lacking := sorted(anchors_of(template) - self._place.anchors.keys()):
                return f"the anchor {lacking[0]} was not found"
            if self._place.fill(template, self._files) is None:
                named = next((text for kind, text in template.parts if kind is PartKind.READ), "")
                return _line(f"{named} has no name in it" if named else "the device's directory has no number")
            if labels and self._place.paths(template, self._files):
                return _line(f"no _label file says {' or '.join(map(quoted, labels))}")
            return _line(f"no file matches {template.text}")
        return ""

    def text(self, template: Template, parse: Parse | None) -> str:
        """Why there is no text at *template*."""
        path = self._place.path(template, self._files)
        if path is None:
            return self.paths([template])
        return _line(self._file(None, Origin((), parse=parse or _TEXT), path))

    def facts(self, facts: tuple[Fact, ...]) -> tuple[str, str]:
        """The first file of *facts* and why it tells nothing; two empty texts when no file is asked."""
        fact = next((fact for fact in facts if fact.path is not None), None)
        if fact is None or fact.path is None:
            return "", ""
        why = self.text(fact.path, fact.parse) or "what it says counts as none (skip)"
        return self._place.path(fact.path, self._files) or "", why

    def value(self, number: Number) -> Reading:
        """What *number* would be without any bounds."""
        return self._figure(number).read(self._files)

    def tried(self, number: Number) -> str:
        """The file that *number* came from, or that it cannot be read from; empty when there is none."""
        figure = self._figure(number)
        figure.read(self._files)
        return figure.tried

    def beside(self, number: Number, suffix: str) -> str:
        """The file with *suffix* beside that of *number*; empty when that has none."""
        path = self.tried(number)
        return f"{channel_of(path)}{suffix}" if path else ""

    def unreadable(self, path: str) -> str:
        """Why *path* cannot be read; empty when it can."""
        return _line(file_cause(self._sysroot, path))

    def file(self, path: str) -> str:
        """Why *path* cannot be read."""
        return self.unreadable(path) or "it could not be read a moment ago"

    def _figure(self, number: Number) -> Figure:
        return aimed(number, self._place, self._files, self._facts)

    def _guard(self, metric: Metric) -> str:
        guard = metric.guard
        if guard is None:
            return ""
        own = next(iter(self._figure(metric.number).paths), None)
        path = own if guard.path is None else self._place.path(guard.path, self._files)
        if path is None:
            return ""
        text = self._files.first(path, guard.parse)
        if isinstance(text, Absent):
            why = self._file(None, Origin((), parse=guard.parse or _TEXT), path)
            return _line(f"its guard cannot be read: {why}")
        return "" if passes(guard, text) else _line(f"its guard does not hold: it says {quoted(text)}")

    def _file(self, number: Number | None, origin: Origin, path: str) -> str:
        text = self._files.text(path)
        if isinstance(text, Absent):
            return self.file(path)
        pieces = self._files.pieces(path, origin.parse)
        if isinstance(pieces, Absent):
            return _no_piece(origin.parse, text)
        if number is None:
            return ""
        return next((why for piece in pieces if (why := _no_number(number, origin.parse.number, piece))), "")


def quoted(text: str, limit: int = 40) -> str:
    """Foreign *text* as one short safe line in quotes."""
    return f"'{sanitise_line(text, limit)}'"


def implausible(value: float, dimension: Dimension) -> str:
    """That *value*, in the base unit of *dimension*, cannot be true."""
    shown = f"{value:.0%}" if dimension is Dimension.RATIO else f"{value:.6g}{_SYMBOLS.get(dimension, '')}"
    return f"{shown} is not plausible; is the unit right?"


def _no_piece(parse: Parse, text: str) -> str:
    if not text.strip():
        return "the file is empty"
    if parse.kind is ParseKind.KV:
        lines = [line.partition(parse.separator) for line in text.splitlines()]
        if any(separator and key.strip() == parse.key for key, separator, _ in lines):
            return f"{quoted(parse.key)} has no value in it"
        return f"there is no line '{sanitise_line(parse.key, 40)}{parse.separator}' in it"
    if parse.kind is ParseKind.CSV:
        return f"there is no column {parse.column} in {quoted(text)}"
    if parse.kind is ParseKind.JSON:
        pointer = sanitise_line("/" + "/".join(parse.pointer), 80)
        if isinstance(load_document(text), Absent):
            return f"it is no JSON: {quoted(text)}"
        return f"there is no number or text at {pointer} in it"
    if parse.kind is ParseKind.REGEX:
        return f"the regular expression finds nothing in {quoted(text)}"
    return f"there is no whole number in {quoted(text)}"


def _no_number(number: Number, kind: ParseKind, piece: str) -> str:
    value = number.mapping.get(piece, number_of(kind, piece))
    if isinstance(value, Absent):
        wanted = {ParseKind.HEX: "a hexadecimal number", ParseKind.INT: "a whole number"}.get(kind, "a number")
        hint = ", nor a word of its map" if number.mapping else ""
        if not isinstance(number_of(ParseKind.FIRST_TOKEN, piece), Absent) and kind is ParseKind.FLOAT:
            hint += '; parse = "first_token" takes its first word'
        elif piece.lower().startswith("0x") and not isinstance(number_of(ParseKind.HEX, piece), Absent):
            hint += '; "hex" reads it'
        return f"{quoted(piece)} is not {wanted}{hint}"
    if value in number.sentinels:
        return f"{quoted(piece)} stands for no value (sentinels)"
    if number.valid is not None and not number.valid[0] <= value <= number.valid[1]:
        return f"{quoted(piece)} is not within valid = [{number.valid[0]:g}, {number.valid[1]:g}]"
    return ""


def _line(text: str) -> str:
    return sanitise_line(text, _WHY_LENGTH)
