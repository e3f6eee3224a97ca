"""A profile tried on a tree of files: what each part of it says, or why it says nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from hwdash.core.clock import Clock
from hwdash.core.device import Device
from hwdash.core.sample import Sample
from hwdash.core.text import sanitise_line
from hwdash.sources.chips.chip import AnchorMissing, Chip
from hwdash.sources.chips.file_read import FileReads
from hwdash.sources.chips.finder import Finder
from hwdash.sources.chips.finding import Finding, findings_of
from hwdash.sources.chips.profile import Profile
from hwdash.sources.chips.template import ROOTS
from hwdash.sources.source import DeviceLost
from hwdash.sources.sysfs import Tree


@dataclass(frozen=True, slots=True)
class InstanceReport:
    """One device of a profile. ``problem`` is why there is no sample of it, ``folder`` its directory."""

    folder: str
    device: Device | None
    sample: Sample | None
    findings: tuple[Finding, ...] = ()
    problem: str = ""


def examine(profile: Profile, sysroot: Path, clock: Clock, *, settle_s: float = 0.0) -> tuple[InstanceReport, ...]:
    """Every device that *profile* finds below *sysroot*, read once, and once more *settle_s* seconds later.

    The second read is what gives rates of counters; with 0 there is none. Blocks meanwhile.
    """
    tree, system = Tree(sysroot, ROOTS), Tree(sysroot)
    files = FileReads(tree, clock)
    chips = [
        Chip(profile, place.folder, place.instance, tree, system, clock, beside=False)
        for place in Finder(profile).find(files)
    ]
    seen = [_first(chip, files) for chip in chips]
    if settle_s > 0 and chips:
        time.sleep(settle_s)
        seen = [
            one if one.device is None else _read(chip, one.device, FileReads(tree, clock))
            for chip, one in zip(chips, seen, strict=True)
        ]
    return tuple(_report(chip, one, sysroot) for chip, one in zip(chips, seen, strict=True))


@dataclass(frozen=True, slots=True)
class _Look:
    """What one read of a device gave, or why nothing, and the files that it read."""

    device: Device | None
    sample: Sample | str
    files: FileReads


def _first(chip: Chip, files: FileReads) -> _Look:
    try:
        device = chip.describe(files)
    except AnchorMissing as error:
        return _Look(None, f"has no {error}, which its profile needs", files)
    return _read(chip, device, files)


def _read(chip: Chip, device: Device, files: FileReads) -> _Look:
    try:
        return _Look(device, chip.read(device.key, files), files)
    except DeviceLost as error:
        return _Look(device, str(error), files)


def _report(chip: Chip, look: _Look, sysroot: Path) -> InstanceReport:
    folder = f"/{sanitise_line(chip.folder)}"
    if look.device is None or isinstance(look.sample, str):
        return InstanceReport(folder, look.device, None, problem=str(look.sample))
    findings = findings_of(chip, look.device, look.sample, look.files, sysroot)
    return InstanceReport(folder, look.device, look.sample, findings)
