"""The profiles that are in use: the built-in ones and the user's, read again when a file changed."""

from __future__ import annotations

from pathlib import Path

import hwdash.sources.chips
from hwdash.sources.chips.loader import load_profiles
from hwdash.sources.chips.profile import Profile

BUILTIN = Path(hwdash.sources.chips.__file__).with_name("profiles")
"""The folder of the profiles that come with hwdash."""


class ProfileFolders:
    """The profiles of some folders. For use by one thread."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._folders = folders
        self._stamp: object = None
        self._profiles: tuple[Profile, ...] = ()
        self._problems: tuple[str, ...] = ()

    def profiles(self) -> tuple[tuple[Profile, ...], tuple[str, ...]]:
        """All profiles, and sentences about files that cannot be used. The same objects for as long as no file changes."""
        stamp = [_stamp_of(folder) for folder in self._folders]
        if stamp != self._stamp:
            self._profiles, self._problems = load_profiles(self._folders)
            self._stamp = stamp
        return self._profiles, self._problems


def _stamp_of(folder: Path) -> list[tuple[str, int, int]]:
    """Something that changes when a profile in *folder* does."""
    found = []
    try:
        for path in sorted(folder.glob("*.toml")):
            status = path.stat()
            found.append((path.name, status.st_mtime_ns, status.st_size))
    except (OSError, ValueError):
        found.append(("", 0, 0))
    return found
