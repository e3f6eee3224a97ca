"""Stretches of time as people write them."""

from __future__ import annotations

import re

from hwdash.core.errors import UsageError

LONGEST_S = 3650 * 86_400.0
"""Ten years: no history reaches further back."""

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]{0,3})", re.ASCII)


def parse_duration(text: str, param: str) -> float:
    """Seconds of ``90``, ``90s``, ``5m``, ``1.5h``, ``7d``, ``2w``: more than 0, at most `LONGEST_S`.

    Raises `UsageError` that names *param*, the flag or field that *text* stands in.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or match[2] not in _UNITS:
        raise UsageError(f"{param}: must be a stretch of time such as 90s, 5m, 1h or 7d", param=param)
    seconds = float(match[1]) * _UNITS[match[2]]
    if not 0.0 < seconds <= LONGEST_S:
        raise UsageError(f"{param}: must be more than nothing and at most ten years", param=param)
    return seconds
