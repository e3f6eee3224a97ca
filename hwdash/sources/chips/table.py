"""Tables of a profile, read key by key: what is wrong is noted with its line, and reading goes on."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwdash.core.errors import UsageError
from hwdash.core.text import sanitise_line
from hwdash.core.tomlline import KeyPath, key_lines, line_of

_MAX_PROBLEMS = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a profile: the line (from 1), the key (``metrics.power.unit``), what is wrong, and the file."""

    line: int
    where: str
    words: str
    origin: str = ""

    def __str__(self) -> str:
        return f"{sanitise_line(self.origin, 400)}:{self.line}: {f'{self.where} ' if self.where else ''}{self.words}"


class ProfileError(UsageError):
    """A profile that cannot be used, with all its mistakes in the order of their lines."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        super().__init__(f"{self.problems[0]}{more}" if self.problems else "the profile is wrong")


class Report:
    """The mistakes found so far in one text."""

    def __init__(self, text: str, origin: str) -> None:
        self._origin = origin
        self._lines = key_lines(text)
        self._anchors: list[tuple[KeyPath, str]] = []
        self.problems: list[Problem] = []

    def needs_anchor(self, path: KeyPath, name: str) -> None:
        """Note that what stands at *path* needs the anchor *name*."""
        self._anchors.append((path, name))

    def check_anchors(self, names: Collection[str]) -> None:
        """Report every need of an anchor that is not among *names*."""
        for path, name in self._anchors:
            if name not in names:
                known = f"; there are: {', '.join(sorted(names))}" if names else ""
                self.add(path, f"needs the anchor {name}, which [anchors] does not have{known}")

    def add(self, path: KeyPath, words: str) -> None:
        """Note a mistake at *path*. Words continue a sentence that begins with the key."""
        if len(self.problems) < _MAX_PROBLEMS:
            where = sanitise_line(_dotted(path), 120)
            self.problems.append(Problem(line_of(self._lines, path), where, sanitise_line(words, 400), self._origin))

    def stop(self) -> None:
        """Raise `ProfileError` when there was a mistake."""
        if self.problems:
            raise ProfileError(self.problems)


def load_table(text: str, origin: str) -> Table:
    """The outermost table of a TOML *text*. Raises `ProfileError` for text that is no TOML."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = text.count("\n") + 1
        words = str(error)
        if " (at line " in words:
            words, _, place = words.rpartition(" (at line ")
            line = int(place.partition(",")[0])
        raise ProfileError([Problem(line, "", f"no TOML: {sanitise_line(words)}", origin)]) from None
    except (ValueError, RecursionError, OverflowError):
        raise ProfileError([Problem(1, "", "no TOML: a number is too long or the nesting too deep", origin)]) from None
    return Table(data, (), Report(text, origin))


class Table:
    """A table whose keys are asked for one by one; `finish` reports those that nobody asked for."""

    def __init__(self, data: Mapping[str, Any], path: KeyPath, report: Report) -> None:
        self.data = data
        self.path = path
        self.report = report
        self._asked: dict[str, None] = {}

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def wrong(self, key: str, words: str) -> None:
        """Note a mistake in the value of *key*; of the table itself when *key* is empty."""
        self.report.add((*self.path, key) if key else self.path, words)

    def take(self, key: str) -> Any:
        """The value of *key*, None when there is none."""
        self._asked[key] = None
        return self.data.get(key)

    def text(self, key: str, *, required: bool = False, longest: int = 500) -> str:
        """A string, not empty where it stands; empty when it does not stand there."""
        value = self.take(key)
        if value is None:
            if required:
                self.wrong("", f"has no {key}")
            return ""
        if not isinstance(value, str) or len(value) > longest:
            self.wrong(key, f"must be a string of at most {longest} characters, not {_shown(value)}")
            return ""
        return value

    def name(self, key: str, *, longest: int) -> str:
        """A name that must stand there: letters, digits, ``_``, ``-`` and ``.``; safe for a terminal."""
        text = self.text(key, required=True, longest=longest)
        if text and not _NAME.fullmatch(text):
            self.wrong(
                key, f"must be letters, digits, _, - and ., beginning with a letter or digit, not {_shown(text)}"
            )
            return ""
        return text

    def choice(self, key: str, choices: Sequence[str], default: str = "") -> str:
        """One of *choices*; *default* when it does not stand there or is none of them."""
        value = self.text(key)
        if key in self.data and value not in choices:
            if isinstance(self.data[key], str):
                self.wrong(key, f"must be one of {', '.join(choices)}, not {_shown(value)}")
            return default
        return value or default

    def flag(self, key: str, *, default: bool = False) -> bool:
        """True or false."""
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.wrong(key, f"must be true or false, not {_shown(value)}")
            return default
        return value

    def number(self, key: str, low: float = -1e30, high: float = 1e30) -> float | None:
        """A number from *low* to *high*."""
        value = self.take(key)
        if value is None:
            return None
        if not is_number(value) or not low <= value <= high:
            bounds = "" if (low, high) == (-1e30, 1e30) else f" from {low:g} to {high:g}"
            self.wrong(key, f"must be a number{bounds}, not {_shown(value)}")
            return None
        return float(value)

    def whole(self, key: str, low: int, high: int) -> int | None:
        """A whole number from *low* to *high*."""
        value = self.take(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.wrong(key, f"must be a whole number from {low} to {high}, not {_shown(value)}")
            return None
        return value

    def strings(self, key: str, *, most: int = 64) -> tuple[str, ...]:
        """A string or a list of strings."""
        value = self.take(key)
        if value is None:
            return ()
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or len(values) > most or not all(isinstance(item, str) for item in values):
            self.wrong(key, f"must be a list of at most {most} strings, not {_shown(value)}")
            return ()
        return tuple(values)

    def numbers(self, key: str, *, most: int = 64) -> tuple[float, ...]:
        """A list of numbers."""
        value = self.take(key)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > most or not all(is_number(item) for item in value):
            self.wrong(key, f"must be a list of at most {most} numbers, not {_shown(value)}")
            return ()
        return tuple(float(item) for item in value)

    def table(self, key: str) -> Table | None:
        """A table; None when there is none."""
        value = self.take(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.wrong(key, f"must be a table, not {_shown(value)}")
            return None
        return Table(value, (*self.path, key), self.report)

    def tables(self, key: str, *, most: int = 64) -> list[Table]:
        """A list of tables; a single table is a list of one."""
        value = self.take(key)
        if value is None:
            return []
        if isinstance(value, dict):
            return [Table(value, (*self.path, key), self.report)]
        if not isinstance(value, list) or len(value) > most or not all(isinstance(item, dict) for item in value):
            self.wrong(key, f"must be a list of at most {most} tables, not {_shown(value)}")
            return []
        return [Table(item, (*self.path, key, number), self.report) for number, item in enumerate(value)]

    def items(self) -> Iterator[tuple[str, Any]]:
        """Every key with its value; all count as asked for."""
        for key in self.data:
            yield key, self.take(key)

    def finish(self) -> None:
        """Report every key that nobody asked for."""
        known = ", ".join(sorted(self._asked))
        for key in self.data:
            if key not in self._asked:
                self.wrong(key, f"is not known here; there are: {known}")


def is_number(value: object) -> bool:
    """True for a finite number that is no truth value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _dotted(path: KeyPath) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return sanitise_line(repr(value), 60)
