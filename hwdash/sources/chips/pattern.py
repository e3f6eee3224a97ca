r"""Regular expressions of a profile, held to a subset whose time is bounded.

The subset: literals, ``.``, classes, ``\d \w \s \D \W \S \b``, ``^ $``, groups, alternatives, ``* + ? {m,n}``, the
flags ``(?i) (?m) (?s)`` in front. Refused: what looks around or back; a repeat within a repeat; two repeats that can
match the same text with nothing between that tells them apart; many optional parts that can. What is left takes at most
quadratic time in the length of one line, and no more than `MAX_LINE` characters of a line, and `MAX_TEXT` of a text, are
ever searched.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

MAX_PATTERN = 200
"""The most characters of one expression."""
MAX_TEXT = 4096
"""The most characters of a text that are searched."""
MAX_LINE = 512
"""The most characters of one line that are searched: `re` holds the interpreter's lock, and all threads, meanwhile."""

_MOST_CHOICES = 3
"""The most optional parts that can match the same text: each doubles the ways to try."""

_MAX_COUNT = 100
_ALL = frozenset(range(129))
"""The characters of ASCII, and 128 for all others."""
_CLASSES = {
    "d": frozenset(range(48, 58)),
    "w": frozenset(code for code in range(128) if chr(code).isalnum() or chr(code) == "_"),
    "s": frozenset(b" \t\n\r\f\v"),
}
_ESCAPES = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_QUANTIFIER = re.compile(r"([*+?]|\{(\d{1,4})?(,)?(\d{1,4})?\})\??")


class BadPattern(Exception):
    """The expression is not of the subset. The message says why."""


@dataclass(frozen=True, slots=True)
class _Atom:
    """One thing that consumes text. ``branches`` are the optional groups and alternatives around it."""

    characters: frozenset[int]
    least: int
    most: float
    branches: tuple[tuple[int, int], ...]

    @property
    def varies(self) -> bool:
        return self.most != self.least

    def varies_beside(self, other: _Atom) -> bool:
        """True when it varies, or need not be there where *other* is."""
        return self.varies or not set(self.branches) <= set(other.branches)


def compile_pattern(text: str) -> re.Pattern[str]:
    """The compiled expression *text*. Raises `BadPattern`."""
    if len(text) > MAX_PATTERN:
        raise BadPattern(f"is longer than {MAX_PATTERN} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what is going to mean something else in a later Python
            compiled = re.compile(text, re.ASCII)  # \d is 0 to 9
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise BadPattern(f"is not a regular expression: {error}") from None
    _check(_Scanner(text, ignore_case=bool(compiled.flags & re.IGNORECASE)).scan())
    return compiled


def search(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The first match of *pattern* within a line of *text*."""
    return next(find_all(pattern, text), None)


def find_all(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Every match of *pattern* within a line of *text*, as far as `MAX_TEXT` and `MAX_LINE` go.

    ``^`` is the beginning of the text, with ``(?m)`` of each line; ``$`` is the end of a line.
    """
    text = text[:MAX_TEXT]
    start = 0
    while start < max(1, len(text)):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield from pattern.finditer(text, start, min(end, start + MAX_LINE))
        start = end + 1


def matches_whole(pattern: re.Pattern[str], name: str) -> bool:
    """True when *pattern* matches the whole of *name*, which is no longer than `MAX_LINE`."""
    return len(name) <= MAX_LINE and pattern.fullmatch(name) is not None


def _check(atoms: list[_Atom]) -> None:
    for last, second in enumerate(atoms):
        for first in range(last):
            if _can_trade(atoms, first, last) and second.varies:
                raise BadPattern(
                    "has two repeats that can match the same text: put a character that neither takes between"
                )

    choices: set[tuple[int, int]] = set()
    for last, second in enumerate(atoms):
        for first in range(last):
            if _can_choose(atoms, first, last):
                choices |= set(atoms[first].branches) ^ set(second.branches)
    if len(choices) > _MOST_CHOICES:
        raise BadPattern(f"has more than {_MOST_CHOICES} optional parts or alternatives that can match the same text")


def _can_choose(atoms: list[_Atom], first: int, last: int) -> bool:
    """True when a text could be matched by the one or by the other, the part around the first being left out."""
    one, other = atoms[first], atoms[last]
    if not one.characters & other.characters or _exclusive(one, other):
        return False
    if not one.varies_beside(other) or not other.varies_beside(one):
        return False
    return not any(
        atom.least > 0 and set(atom.branches) <= set(other.branches) and not atom.characters & one.characters
        for atom in atoms[first + 1 : last]
    )


def _can_trade(atoms: list[_Atom], first: int, last: int) -> bool:
    """True when a text could be shared out between two repeats in many ways."""
    one, other = atoms[first], atoms[last]
    if not one.varies or not one.characters & other.characters or _exclusive(one, other):
        return False
    around = {*one.branches, *other.branches}
    return not any(
        atom.least > 0
        and set(atom.branches) <= around
        and (not atom.characters & one.characters or not atom.characters & other.characters)
        for atom in atoms[first + 1 : last]
    )


def _exclusive(one: _Atom, other: _Atom) -> bool:
    """True when the two stand in different alternatives of one group."""
    groups = dict(one.branches)
    return any(group in groups and groups[group] != branch for group, branch in other.branches)


class _Scanner:
    """The atoms of an expression that `re` has accepted already."""

    def __init__(self, text: str, *, ignore_case: bool) -> None:
        self._text = text
        self._at = 0
        self._ignore_case = ignore_case
        self._atoms: list[_Atom] = []
        self._groups = 0

    def scan(self) -> list[_Atom]:
        if flags := re.match(r"\(\?[ims]+\)", self._text):
            self._at = flags.end()
        self._alternatives(())
        return self._atoms

    def _alternatives(self, around: tuple[tuple[int, int], ...]) -> None:
        """Up to the end of a group or of the text."""
        self._groups += 1
        group, branch, start = self._groups, 0, len(self._atoms)
        while self._at < len(self._text) and self._text[self._at] != ")":
            if self._text[self._at] == "|":
                self._at += 1
                branch += 1
            else:
                self._piece((*around, (group, branch)))
        if branch == 0:  # no alternatives: the group itself is no branch
            self._atoms[start:] = [
                _Atom(atom.characters, atom.least, atom.most, tuple(item for item in atom.branches if item[0] != group))
                for atom in self._atoms[start:]
            ]

    def _piece(self, branches: tuple[tuple[int, int], ...]) -> None:
        if self._text[self._at] == "(":
            self._group(branches)
            return
        characters = self._characters()
        if characters is None:
            return
        least, most = self._quantifier()
        self._atoms.append(_Atom(characters, least, most, branches))

    def _group(self, branches: tuple[tuple[int, int], ...]) -> None:
        opening = re.compile(r"\((\?:|\?P<\w+>)?").match(self._text, self._at)
        assert opening is not None
        self._at = opening.end()
        if self._text.startswith("?", self._at):
            raise BadPattern("uses a group that looks around or back, or is conditional: not allowed here")
        start = len(self._atoms)
        self._groups += 1
        mark = (self._groups, 0)
        self._alternatives((*branches, mark))
        self._at += 1
        least, most = self._quantifier()
        inner = self._atoms[start:]
        if most > 1:
            if any(atom.varies or len(atom.branches) > len(branches) + 1 for atom in inner):
                raise BadPattern("has a repeat or alternatives within a repeated group: not allowed here")
            union = frozenset(code for atom in inner for code in atom.characters)
            self._atoms[start:] = [_Atom(union, least, most, branches)]
        elif least == 1:
            self._atoms[start:] = [
                _Atom(atom.characters, atom.least, atom.most, tuple(item for item in atom.branches if item != mark))
                for atom in inner
            ]

    def _quantifier(self) -> tuple[int, float]:
        """How often what stands before may occur."""
        match = _QUANTIFIER.match(self._text, self._at)
        if match is None or match[1] in ("{}", "{,}"):
            return 1, 1
        self._at = match.end()
        if self._text[self._at : self._at + 1] == "+":
            raise BadPattern("has a possessive repeat: not allowed here")
        if match[1] in "*+?":
            return (1 if match[1] == "+" else 0), (1 if match[1] == "?" else float("inf"))
        least = int(match[2] or 0)
        most = float(match[4]) if match[4] else float("inf") if match[3] else float(least)
        if least > _MAX_COUNT or (most > _MAX_COUNT and most != float("inf")):
            raise BadPattern(f"counts further than {_MAX_COUNT}")
        return least, most

    def _characters(self) -> frozenset[int] | None:
        """What the next element of one character can be; None for one that consumes nothing."""
        character = self._text[self._at]
        self._at += 1
        if character in "^$":
            return None
        if character == ".":
            return _ALL
        if character == "[":
            return self._class()
        if character == "\\":
            return self._escaped()
        return self._folded(frozenset({min(ord(character), 128)}))

    def _escaped(self) -> frozenset[int] | None:
        letter = self._text[self._at]
        self._at += 1
        if letter in "bBAZ":
            return None
        if letter.isdigit():
            raise BadPattern("refers back to a group, or names a character by its number: not allowed here")
        if letter in "dws":
            return _CLASSES[letter]
        if letter in "DWS":
            return _ALL - _CLASSES[letter.lower()]
        if letter in _ESCAPES:
            return frozenset({_ESCAPES[letter]})
        if letter.isalpha():
            raise BadPattern(f"has \\{letter}: not allowed here")
        return self._folded(frozenset({min(ord(letter), 128)}))

    def _class(self) -> frozenset[int]:
        found: set[int] = set()
        negated = self._text.startswith("^", self._at)
        self._at += 1 if negated else 0
        first = True
        while first or self._text[self._at] != "]":
            first = False
            if self._text[self._at] == "\\":
                self._at += 1
                inside = self._escaped()
                found |= _ALL if inside is None else inside
                continue
            low = ord(self._text[self._at])
            self._at += 1
            high = low
            if self._text[self._at] == "-" and self._text[self._at + 1] not in "]\\":
                high = ord(self._text[self._at + 1])
                self._at += 2
            found |= {min(code, 128) for code in range(low, min(high, 128) + 1)} | ({128} if high > 127 else set())
        self._at += 1
        if negated:
            return (_ALL - found) | {128}
        return self._folded(frozenset(found))

    def _folded(self, characters: frozenset[int]) -> frozenset[int]:
        if not self._ignore_case:
            return characters
        letters = {ord(chr(code).swapcase()) for code in characters if code < 128}
        return characters | letters
