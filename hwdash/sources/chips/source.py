"""The source of devices that a profile describes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hwdash.core.clock import SYSTEM_CLOCK, Clock
from hwdash.core.device import Device
from hwdash.core.sample import Sample
from hwdash.core.text import sanitise_line
from hwdash.sources.chips.chip import AnchorMissing, Chip
from hwdash.sources.chips.file_read import FileReads
from hwdash.sources.chips.finder import Finder
from hwdash.sources.chips.folder import BUILTIN, ProfileFolders
from hwdash.sources.chips.place import Place
from hwdash.sources.chips.profile import Profile
from hwdash.sources.chips.template import ROOTS
from hwdash.sources.source import DeviceLost, SourceUnavailable
from hwdash.sources.sysfs import Tree

_MOST_SENTENCES = 3


class ChipSource:
    """Devices of all profiles, built in and from *user_folder*. What a profile names is read below *sysroot*."""

    name = "chips"
    per_device = True

    def __init__(self, sysroot: Path = Path("/"), clock: Clock = SYSTEM_CLOCK, user_folder: Path | None = None) -> None:
        self._tree = Tree(sysroot, ROOTS)
        self._system = Tree(sysroot)
        self._clock = clock
        self._folders = ProfileFolders((BUILTIN,) if user_folder is None else (BUILTIN, user_folder))
        self._finders: dict[str, tuple[Profile, Finder]] = {}
        self._chips: dict[str, Chip] = {}
        self._problem = ""

    @property
    def problem(self) -> str:
        """What is wrong with user profiles, and with devices that a profile fits only in part."""
        return self._problem

    def discover(self) -> Sequence[Device]:
        """All devices of all profiles, with their facts as of the last read after the discovery before.

        A device that is known is not read: should its driver hang, only its own reader hangs with it. Raises
        `SourceUnavailable` when there is none.
        """
        profiles, sentences = self._folders.profiles()
        problems = list(sentences)
        files = FileReads(self._tree, self._clock)
        known = {(chip.profile.id, chip.folder): chip for chip in self._chips.values()}
        found: list[tuple[Device, Chip]] = []
        for profile in profiles:
            finder = self._finder(profile)
            trusted = {chip.folder for chip in known.values() if chip.profile is profile and chip.device is not None}
            for place in finder.find(files, trusted):
                chip = self._chip(profile, place, known)
                try:
                    found.append((_device_of(chip, files), chip))
                except AnchorMissing as error:
                    problems.append(f"{profile.id}: {sanitise_line(place.instance, 60)} has no {error}")
            problems += [finder.problem] if finder.problem else []
        self._problem = _joined(problems)
        devices = _with_keys_of_their_own(found)
        chips = {device.key: chip for device, chip in devices}
        for chip in set(known.values()) - set(chips.values()):
            chip.close()
        self._chips = chips
        if not devices:
            raise SourceUnavailable(self._problem)
        return [device for device, _ in devices]

    def read(self, key: str, fresh: bool = False) -> Sample:
        """One sample of the device *key*. Raises `DeviceLost` when its directory is gone."""
        chip = self._chips.get(key)
        if chip is None:
            raise DeviceLost(f"{key} is not there")
        return chip.read(key)

    def close(self) -> None:
        """Let the threads for slow metrics end."""
        for chip in self._chips.values():
            chip.close()

    def _finder(self, profile: Profile) -> Finder:
        held = self._finders.get(profile.id)
        if held is None or held[0] is not profile:
            held = self._finders[profile.id] = (profile, Finder(profile))
        return held[1]

    def _chip(self, profile: Profile, place: Place, known: dict[tuple[str, str], Chip]) -> Chip:
        """The chip at *place* with all that it has counted; a new one when it, or its profile, is new."""
        held = known.get((profile.id, place.folder))
        if held is not None and held.profile is profile:
            return held
        return Chip(profile, place.folder, place.instance, self._tree, self._system, self._clock)


def _device_of(chip: Chip, files: FileReads) -> Device:
    """The facts of *chip*: those that are known, to be read anew by its own reader, or those of now for a new one."""
    device = chip.device
    if device is None:
        return chip.describe(files)
    chip.outdate()
    return device


def _with_keys_of_their_own(found: list[tuple[Device, Chip]]) -> list[tuple[Device, Chip]]:
    """The devices, with the name of the directory added to a key that several would have."""
    times = Counter(device.key for device, _ in found)
    return [
        (
            device if times[device.key] == 1 else replace(device, key=f"{device.key}@{sanitise_line(chip.instance)}"),
            chip,
        )
        for device, chip in found
    ]


def _joined(sentences: list[str]) -> str:
    more = f"; and {len(sentences) - _MOST_SENTENCES} more" if len(sentences) > _MOST_SENTENCES else ""
    return "; ".join(sentences[:_MOST_SENTENCES]) + more
