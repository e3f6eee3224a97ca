"""The characters that the dashboard draws with: a Unicode set, and an ASCII set for terminals and locales without it."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass

_PLAIN_TERMINALS = frozenset({"linux", "dumb", "vt100", "vt220", "cons25"})
"""Values of TERM whose fonts have no braille patterns and no eighth blocks."""

_IN_ASCII = str.maketrans(
    {
        "…": "~",
        "━": "#",
        "·": "-",
        "–": "-",
        "—": "-",
        "µ": "u",
        "×": "x",
        "→": ">",
        "°": " ",
        "│": "|",
        "─": "-",
        "\u00a0": " ",
    }
    | {
        "’": "'",
        "‘": "'",
        "“": '"',
        "”": '"',
        "≥": ">",
        "≤": "<",
        "✓": "+",
        "●": "*",
        "▲": "^",
        "▼": "v",
        "\ufffd": "?",
    }
)


@dataclass(frozen=True, slots=True)
class Glyphs:
    """One set. ``partial_bars`` are the steps between an empty and a full bar cell; ``braille`` allows dot patterns.

    ``levels`` are the steps of a trace cell from empty to full where there is no braille. Every member but
    ``degrees``, ``flow`` and ``pause`` is one cell wide.
    """

    ascii: bool
    bar_full: str
    bar_empty: str
    partial_bars: tuple[str, ...]
    braille: bool
    levels: str
    up: str
    down: str
    left: str
    right: str
    ellipsis: str
    dot: str
    cursor: str
    rule: str
    wall: str
    alert: str
    degrees: str
    flow: str
    play: str
    pause: str
    stop: str
    branch: str
    lost: str

    def text(self, text: str) -> str:
        """*text* as this set can show it, with the same number of characters; foreign scripts become ``?`` in ASCII."""
        if not self.ascii or text.isascii():
            return text
        return "".join(char if char.isascii() else "?" for char in text.translate(_IN_ASCII))


UNICODE = Glyphs(
    ascii=False,
    bar_full="━",
    bar_empty="·",
    partial_bars=("╸",),
    braille=True,
    levels=" ▁▂▃▄▅▆▇█",
    up="▲",
    down="▼",
    left="◀",
    right="▶",
    ellipsis="…",
    dot="·",
    cursor="▌",
    rule="─",
    wall="│",
    alert="▲",
    degrees="°C",
    flow="→",
    play="▶",
    pause="❚❚",
    stop="■",
    branch="└",
    lost="×",
)
ASCII = Glyphs(
    ascii=True,
    bar_full="#",
    bar_empty=".",
    partial_bars=(),
    braille=False,
    levels=" .:-=+*#",
    up="^",
    down="v",
    left="<",
    right=">",
    ellipsis="~",
    dot="-",
    cursor=">",
    rule="-",
    wall="|",
    alert="!",
    degrees="C",
    flow="->",
    play=">",
    pause="||",
    stop="#",
    branch="`",
    lost="x",
)


def choose_glyphs(ascii_only: bool, encoding: str, environ: Mapping[str, str]) -> Glyphs:
    """The set for a terminal: ASCII when asked for, when *encoding* is not UTF-8, or when TERM has no such font."""
    try:
        utf8 = codecs.lookup(encoding).name == "utf-8"
    except LookupError:
        utf8 = False
    return ASCII if ascii_only or not utf8 or environ.get("TERM") in _PLAIN_TERMINALS else UNICODE
