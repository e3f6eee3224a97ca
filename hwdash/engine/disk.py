"""How much room there is, and how much is taken."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from hwdash.core.errors import ModelError
from hwdash.core.format import bytes_text


def check_disk(place: Path, needed: int, name: str) -> None:
    """Raise `ModelError` when *place* has less than *needed* bytes free."""
    free = shutil.disk_usage(place).free
    if free < needed:
        raise ModelError(
            f"{place} has {bytes_text(free)} free and fetching {name} needs {bytes_text(needed)}; make room, or set "
            "XDG_CACHE_HOME to a larger place"
        )


def size_of(directory: Path) -> int:
    """The bytes of all files below *directory*; files that vanish meanwhile do not count."""
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total
