"""In which line of a TOML text each key stands, for messages: the standard library's parser does not tell."""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Mapping

KeyPath = tuple[str | int, ...]
"""The way to a value: keys, and numbers (from 0) of the elements of arrays: ``("alerts", "rules", 1, "name")``."""

_BARE_END = frozenset("=.]\t \n\"'")
_VALUE_END = frozenset(",]}#\n")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def key_lines(text: str) -> Mapping[KeyPath, int]:
    """The line, from 1, of every key, table and array element of *text*, which must be valid TOML.

    Of a text that is not, as much as could be followed.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    with contextlib.suppress(IndexError, RecursionError):
        scanner.scan()
    return scanner.lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """The line of *path*, or of the nearest thing around it that has one; 1 when there is none."""
    for length in range(len(path), 0, -1):
        if (line := lines.get(path[:length])) is not None:
            return line
    return 1


class _Scanner:
    """One walk over a text. Reading past its end raises `IndexError`."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._starts = [0, *(index + 1 for index, character in enumerate(text) if character == "\n")]
        self._counts: dict[KeyPath, int] = {}

    def scan(self) -> None:
        table: KeyPath = ()
        while True:
            self._skip_blank()
            if self._at >= len(self._text):
                return
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> KeyPath:
        line = self._line()
        many = self._text.startswith("[[", self._at)
        self._at += 2 if many else 1
        keys = self._keys()
        self._at += 2 if many else 1
        table: KeyPath = ()
        for number, key in enumerate(keys):
            table = (*table, key)
            self.lines.setdefault(table, line)
            last = number == len(keys) - 1
            if many and last:
                self._counts[table] = self._counts.get(table, 0) + 1
            if table in self._counts:
                table = (*table, self._counts[table] - 1)
                self.lines.setdefault(table, line)
        return table

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for key in self._keys():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self._at += 1  # the equals sign
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._skip_spaces()
        opening = self._text[self._at]
        if opening in "\"'":
            self._string()
        elif opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        else:
            start = self._at
            while self._at < len(self._text) and self._text[self._at] not in _VALUE_END:
                self._at += 1
            if self._at == start:
                raise IndexError

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        number = 0
        while True:
            self._skip_blank()
            if self._text[self._at] == "]":
                self._at += 1
                return
            if self._text[self._at] == ",":
                self._at += 1
                continue
            element = (*path, number)
            self.lines[element] = self._line()
            self._value(element)
            number += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while True:
            self._skip_blank()
            if self._text[self._at] == "}":
                self._at += 1
                return
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._pair(path)

    def _keys(self) -> list[str]:
        """The parts of a dotted key; stands on what follows it (an equals sign or a bracket) afterwards."""
        keys = []
        while True:
            self._skip_spaces()
            keys.append(self._key())
            self._skip_spaces()
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _key(self) -> str:
        if self._text[self._at] in "\"'":
            return self._string()
        start = self._at
        while self._text[self._at] not in _BARE_END:
            self._at += 1
        if self._at == start:
            raise IndexError
        return self._text[start : self._at]

    def _string(self) -> str:
        """Step over a string; its text, which matters for keys only (those have one line)."""
        quote = self._text[self._at]
        if self._text.startswith(quote * 3, self._at):
            self._long_string(quote)
            return ""
        self._at += 1
        found = []
        while (character := self._text[self._at]) != quote:
            self._at += 1
            found.append(self._escape() if character == "\\" and quote == '"' else character)
        self._at += 1
        return "".join(found)

    def _long_string(self, quote: str) -> None:
        self._at += 3
        while not self._text.startswith(quote * 3, self._at):
            self._at += 2 if self._text[self._at] == "\\" and quote == '"' else 1
        self._at += 3
        while self._text.startswith(quote, self._at):  # up to two quotes may stand before the closing ones
            self._at += 1

    def _escape(self) -> str:
        letter = self._text[self._at]
        self._at += 1
        if letter not in "uU":
            return _ESCAPES.get(letter, letter)
        size = 4 if letter == "u" else 8
        digits = self._text[self._at : self._at + size]
        self._at += size
        try:
            return chr(int(digits, 16))
        except (ValueError, OverflowError):
            return ""

    def _skip_spaces(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in " \t":
            self._at += 1

    def _skip_blank(self) -> None:
        """Step over white space, line breaks and comments."""
        while self._at < len(self._text):
            if self._text[self._at] == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif self._text[self._at] in " \t\n":
                self._at += 1
            else:
                return

    def _line(self) -> int:
        return bisect_right(self._starts, self._at)
