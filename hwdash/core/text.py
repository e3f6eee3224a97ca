"""Foreign text made safe for a terminal."""

from __future__ import annotations

import re

# C0 without tab and newline, DEL, C1, the bidirectional controls that can reorder a line on screen, and the halves of
# surrogate pairs, which stand for bytes of a file name that are not UTF-8 and can be written nowhere.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_NOT_IN_A_LINE = re.compile("[\t\n\u2028\u2029]+")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def sanitise(text: str) -> str:
    """*text* with every control character but tab and newline, and half a surrogate pair, replaced by U+FFFD. Length in characters is kept.

    CR LF is first folded into LF. Meant for whole texts: a model's answer, a log excerpt.
    """
    return _CONTROL.sub(_REPLACEMENT, text.replace("\r\n", "\n"))


def sanitise_line(text: str, limit: int = 200) -> str:
    """*text* as one safe line of at most *limit* characters: tabs and line breaks become spaces, ends are stripped.

    Meant for names: of devices, drivers, processes, files.
    """
    line = _NOT_IN_A_LINE.sub(" ", sanitise(text)).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"
