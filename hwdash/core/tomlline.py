"""The line of a TOML text in which a key stands, for messages: the standard library's parser does not tell."""

from __future__ import annotations

import re

Path = tuple[str | int, ...]
"""Keys from the root on, with the number (from 0) of the element of an array of tables: ``("alerts", "rules", 1, "name")``."""

_KEY = r"(?:\"[^\"\n]*\"|'[^'\n]*'|[A-Za-z0-9_-]+)"
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})\s*=")
_LONG_STRING = re.compile(r"\"{3}|'{3}")


def line_of(text: str, path: Path) -> int:
    """The line, from 1, of the key *path* in the TOML *text*; of the nearest thing around it where it is written inline.

    Found by the look of the lines, so it is right for text as people write it. 1 where nothing fits.
    """
    best, length = 1, 0
    table: Path = ()
    counts: dict[tuple[str, ...], int] = {}
    closing = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not closing:
            if header := _HEADER.match(line):
                table = here = _table(_keys(header[2]), header[1] == "[[", counts)
            elif assignment := _ASSIGNMENT.match(line):
                here = table + _keys(assignment[1])
            else:
                here = ()
            if here[: len(path)] == path:
                return number
            if len(here) > length and path[: len(here)] == here:
                best, length = number, len(here)
        closing = _open_string(line, closing)
    return best


def _keys(dotted: str) -> tuple[str, ...]:
    return tuple(key.strip("\"'") for key in re.findall(_KEY, dotted))


def _table(names: tuple[str, ...], is_array: bool, counts: dict[tuple[str, ...], int]) -> Path:
    """The path of a header; what stands below an array of tables belongs to its newest element."""
    if is_array:
        counts[names] = counts.get(names, 0) + 1
    path: Path = ()
    for end, name in enumerate(names, start=1):
        path += (name,)
        if names[:end] in counts:
            path += (counts[names[:end]] - 1,)
    return path


def _open_string(line: str, closing: str) -> str:
    """The delimiter of the string of several lines that is still open after *line*, or an empty text."""
    for found in _LONG_STRING.findall(line):
        if not closing:
            closing = found
        elif found == closing:
            closing = ""
    return closing
