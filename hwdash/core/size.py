"""Sizes of memory as people write them."""

from __future__ import annotations

import re
from types import MappingProxyType

from hwdash.core.errors import UsageError
from hwdash.core.text import sanitise_line

MAX_BYTES = 2**60
_FEWEST = 2**20
_FORM = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)\s*([kmgtp]?)(i?)(b?)", re.IGNORECASE | re.ASCII)
_POWERS = MappingProxyType({"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5})


def parse_size(text: str, param: str = "min_memory") -> int:
    """Bytes of ``40GiB``, ``512 MiB``, ``1.5T``, ``80GB`` or ``1048576``.

    ``GB`` is decimal, ``GiB`` and the bare letter ``G`` are binary. A number alone counts bytes; one so small that a
    unit was surely forgotten is refused. Raises `UsageError`, which names *param*, for anything else, and for what is
    not above 0 and at most `MAX_BYTES`.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        shown = sanitise_line(text, 60)
        raise UsageError(f"{param}: not a size: {shown!r}; write one such as 40GiB, 512MiB or 80GB", param=param)
    if not match[2] and not match[4] and float(match[1]) < _FEWEST:
        raise UsageError(f"{param}: {match[1]} of what? write a unit, such as {match[1]}GiB", param=param)
    base = 1000 if match[2] and match[4] and not match[3] else 1024
    size = float(match[1]) * float(base ** _POWERS[match[2].lower()])
    if not 1 <= size <= MAX_BYTES:
        raise UsageError(f"{param}: must be between 1 B and 1 EiB, not {sanitise_line(text, 60)}", param=param)
    return round(size)
