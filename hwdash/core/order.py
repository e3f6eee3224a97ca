"""The order in which people expect names."""

from __future__ import annotations

import re
from functools import lru_cache


@lru_cache(maxsize=4096)
def natural_key(name: str) -> tuple[tuple[bool, int, str], ...]:
    """A sort key in which ``gpu10`` comes after ``gpu9``."""
    return tuple(
        (False, int(piece), piece) if piece.isdecimal() and len(piece) < 20 else (True, 0, piece)
        for piece in re.split(r"(\d+)", name)
        if piece
    )
