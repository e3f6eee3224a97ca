"""amdgpu's tables of performance levels, ``pp_dpm_*``: one level a line, a star at the one in force.

Format after the kernel document "gpu/amdgpu/thermal": ``1: 852Mhz *``, of the link ``1: 16.0GT/s, x16 619Mhz *``. A line
``S: 19Mhz *`` is a deep-sleep state. The case of the unit varies.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from hwdash.core.reading import Absent, Reading
from hwdash.sources.drm import link_generation, link_width
from hwdash.sources.sysfs import ReadFailure, Tree

T = TypeVar("T")

_LEVEL = re.compile(r"[ \t]{0,8}(?:[0-9]{1,3}|S):([^\n]{1,200})", re.ASCII)
_CLOCK = re.compile(r"\s*([0-9]{1,5})\s*mhz\b", re.IGNORECASE | re.ASCII)
_LINK = re.compile(r"\s*([0-9.]{1,5}\s*GT/s)\s*,\s*(x[0-9]{1,2})\b", re.IGNORECASE | re.ASCII)


def current_clock_hz(tree: Tree, path: str) -> Reading:
    """The clock of the level in force, in Hz."""
    return _current(tree, path, _clock)


def highest_clock_hz(tree: Tree, path: str) -> float | None:
    """The highest clock of all levels, in Hz; None when there is none above 0."""
    return max((clock for level in _levels_or_none(tree, path) if (clock := _clock(level))), default=None)


def current_link(tree: Tree, path: str) -> tuple[int, int] | Absent:
    """PCI Express generation and lanes of the level in force."""
    return _current(tree, path, _link)


def highest_link(tree: Tree, path: str) -> tuple[int, int] | None:
    """The fastest link of all levels."""
    return max((link for level in _levels_or_none(tree, path) if (link := _link(level))), default=None)


def _current(tree: Tree, path: str, parse: Callable[[str], T | None]) -> T | Absent:
    try:
        levels = _levels(tree, path)
    except ReadFailure as failure:
        return failure.reason
    if not levels:
        return Absent.BAD_VALUE
    starred = next((level for level in levels if level.rstrip().endswith("*")), None)
    if starred is None:
        return Absent.NOT_SUPPORTED
    value = parse(starred)
    return Absent.BAD_VALUE if value is None else value


def _levels(tree: Tree, path: str) -> list[str]:
    """What stands behind the numbers of the levels. Raises `ReadFailure`."""
    return [match[1] for line in tree.text(path, 8192).splitlines() if (match := _LEVEL.match(line))]


def _levels_or_none(tree: Tree, path: str) -> list[str]:
    try:
        return _levels(tree, path)
    except ReadFailure:
        return []


def _clock(level: str) -> float | None:
    match = _CLOCK.match(level)
    return float(match[1]) * 1e6 if match and int(match[1]) <= 10_000 else None


def _link(level: str) -> tuple[int, int] | None:
    match = _LINK.match(level)
    if match is None:
        return None
    generation, width = link_generation(match[1]), link_width(match[2].lower())
    return (generation, width) if generation is not None and width is not None else None
