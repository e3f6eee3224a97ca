"""Which devices of a profile there are."""

from __future__ import annotations

from collections.abc import Collection

from hwdash.sources.chips.fact import holds_at
from hwdash.sources.chips.file_read import FileReads
from hwdash.sources.chips.origin import Condition, PartKind
from hwdash.sources.chips.place import Place, expand_named
from hwdash.sources.chips.profile import MAX_INSTANCES, Profile

_MOST_NAMES = 4096
"""The most directories that a glob of a profile is followed into."""

_OF_THE_BUS = frozenset({"vendor", "device", "class", "subsystem_vendor", "subsystem_device"})
"""Files that do not change for as long as a directory is there."""


class Finder:
    """Looks for the devices of one profile. For use by one thread.

    Directories that cannot ever be such a device, by their vendor or class, are not opened again.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._foreign: set[str] = set()
        self.problem = ""

    def find(self, files: FileReads, trusted: Collection[str] = ()) -> list[Place]:
        """The directories of the devices: those of the first root that has any.

        Nothing is read in the directories of *trusted*: they are devices for as long as they are there.
        """
        self.problem = ""
        for root in self._profile.match.roots:
            candidates = expand_named(files.tree, root.strip("/"), _MOST_NAMES)
            self._foreign &= {folder for folder, _ in candidates}
            found: dict[str, Place] = {}
            for folder, name in candidates:
                if folder in self._foreign:
                    continue
                place = Place(folder, name)
                if not files.tree.is_folder(folder) or _leads_back(folder, name, files):
                    continue
                if folder in trusted or self._is_one(place, files):
                    found.setdefault(files.tree.real(folder) or folder, place)
            if len(found) > MAX_INSTANCES:
                self.problem = f"{self._profile.id}: only the first {MAX_INSTANCES} of {len(found)} devices are shown"
            if found:
                return list(found.values())[:MAX_INSTANCES]
        return []

    def _is_one(self, place: Place, files: FileReads) -> bool:
        for condition in self._profile.match.require:
            if not holds_at(condition, place, files):
                if _is_lasting(condition) and files.tree.exists(f"{place.folder}/{condition.path.text}"):
                    self._foreign.add(place.folder)
                return False
        return True


def _leads_back(folder: str, name: str, files: FileReads) -> bool:
    """True for a link that a glob found and that leads to a directory on the way to it: no device, but a circle."""
    above, _, last = folder.rpartition("/")
    real = files.tree.real(folder)
    if last != name or real is None or len(real) >= len(folder):
        return False
    while above:
        if files.tree.real(above) == real:
            return True
        above = above.rpartition("/")[0]
    return False


def _is_lasting(condition: Condition) -> bool:
    plain = condition.path.parts[0] if len(condition.path.parts) == 1 else None
    return plain is not None and plain[0] is PartKind.TEXT and plain[1] in _OF_THE_BUS
