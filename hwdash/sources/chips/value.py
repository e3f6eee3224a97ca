"""From a file's text to pieces of text and to numbers. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from hwdash.core.reading import Absent
from hwdash.sources.chips.origin import Parse, ParseKind, Reduce
from hwdash.sources.chips.pattern import find_all, search

_MAX_PIECES = 4096
_FLOAT = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
_INT = re.compile(r"[+-]?[0-9]{1,40}")
_HEX = re.compile(r"(?:0[xX])?[0-9a-fA-F]{1,16}")
_WORD = re.compile(r"[0-9]+")

_NO_PIECE = Absent.NOT_SUPPORTED
"""The file is there, and has no such key."""


def cut(parse: Parse, text: str) -> list[str] | Absent:
    """The pieces of *text* that *parse* is about; at least one, or why there is none. JSON is `cut_document`'s work."""
    if parse.kind is ParseKind.KV:
        return _of_key(parse, text)
    if parse.kind is ParseKind.CSV:
        fields = next((line for line in text.splitlines() if line.strip()), "").split(parse.separator)
        return [fields[parse.column].strip()] if parse.column < len(fields) else Absent.BAD_VALUE
    if parse.kind is ParseKind.REGEX:
        return _of_pattern(parse, text)
    if parse.kind is ParseKind.INTS:
        return _WORD.findall(text)[:_MAX_PIECES] or Absent.BAD_VALUE
    stripped = text.strip()
    return [stripped] if stripped else Absent.BAD_VALUE


def number_of(kind: ParseKind, piece: str) -> int | float | Absent:
    """The number that *piece* is; whole ones exactly."""
    piece = piece.strip()
    if kind is ParseKind.FIRST_TOKEN:
        piece = next(iter(piece.split()), "")
    if kind is ParseKind.HEX:
        return int(piece, 16) if _HEX.fullmatch(piece) else Absent.BAD_VALUE
    if _INT.fullmatch(piece):
        return int(piece)
    if kind is ParseKind.INT or not _FLOAT.fullmatch(piece):
        return Absent.BAD_VALUE
    return float(piece)


def reduce_values(how: Reduce | None, values: list[float]) -> float:
    """One number from *values*, of which there is at least one."""
    if how is Reduce.SUM:
        return sum(values)
    if how is Reduce.MAX:
        return max(values)
    if how is Reduce.MIN:
        return min(values)
    if how is Reduce.MEAN:
        return sum(values) / len(values)
    return values[0]


def _of_key(parse: Parse, text: str) -> list[str] | Absent:
    for line in text.splitlines():
        key, separator, value = line.partition(parse.separator)
        if separator and key.strip() == parse.key:
            return [value.strip()] if value.strip() else Absent.BAD_VALUE
    return _NO_PIECE


def _of_pattern(parse: Parse, text: str) -> list[str] | Absent:
    if parse.pattern is None:
        return Absent.BAD_VALUE
    if parse.every:
        found = [match[parse.group] for match in find_all(parse.pattern, text)]
        return [piece for piece in found[:_MAX_PIECES] if piece is not None] or Absent.BAD_VALUE
    match = search(parse.pattern, text)
    return [match[parse.group]] if match is not None and match[parse.group] is not None else Absent.BAD_VALUE


def load_document(text: str) -> Any:
    """*text* as JSON, numbers left as text; `Absent.BAD_VALUE` when it is none."""
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError):
        return Absent.BAD_VALUE


def cut_document(pointer: tuple[str, ...], document: Any) -> list[str] | Absent:
    """The values of a JSON *document* that *pointer* leads to, as text; truth values are 1 and 0."""
    if isinstance(document, Absent):
        return document
    found = [document]
    for token in pointer:
        found = [inner for value in found for inner in _below(value, token)][:_MAX_PIECES]
    flat = [piece for value in found for piece in (value if isinstance(value, list) else [value])]
    pieces = [_piece(value) for value in flat[:_MAX_PIECES] if value is not None]
    if not pieces:
        return _NO_PIECE
    texts = [piece for piece in pieces if piece is not None]
    return texts if len(texts) == len(pieces) else Absent.BAD_VALUE


def _below(value: Any, token: str) -> list[Any]:
    if token == "*":  # noqa: S105  a part of a pointer, no secret
        if isinstance(value, dict):
            return list(value.values())
        return value if isinstance(value, list) else []
    if isinstance(value, dict):
        return [value[token]] if token in value else []
    if isinstance(value, list) and token.isascii() and token.isdecimal() and len(token) < 6 and int(token) < len(value):
        return [value[int(token)]]
    return []


def _piece(value: Any) -> str | None:
    """A JSON value as text; None for a table or list."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return value if isinstance(value, str) else None
