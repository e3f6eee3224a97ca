"""A profile tried on a tree of files: what each part of it says, or why it says nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hwdash.core.clock import Clock
from hwdash.core.device import Device
from hwdash.core.format import reading_text
from hwdash.core.reading import Absent, Reading
from hwdash.core.sample import Sample
from hwdash.core.text import sanitise_line
from hwdash.sources.chips.chip import AnchorMissing, Chip
from hwdash.sources.chips.file_read import FileReads
from hwdash.sources.chips.finder import Finder
from hwdash.sources.chips.profile import Profile
from hwdash.sources.chips.template import ROOTS
from hwdash.sources.source import DeviceLost
from hwdash.sources.sysfs import Tree


@dataclass(frozen=True, slots=True)
class Finding:
    """One part of a profile at one device.

    ``kind`` is ``metric``, ``memory``, ``throttle`` or ``processes``; ``name`` that of the profile. ``text`` is the
    value for a person, empty when it is ``absent``; ``value`` its number in the base unit where it is one. ``path``
    is the file that was read or tried, with a leading slash, empty when there was none to try. ``note`` says what is
    special: ``declared``, ``not verified``, ``needs root``, ``optional``.
    """

    kind: str
    name: str
    text: str = ""
    absent: Absent | None = None
    path: str = ""
    note: str = ""
    value: float | None = None


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
        seen = [_again(chip, *one) for chip, one in zip(chips, seen, strict=True)]
    return tuple(_report(chip, *one) for chip, one in zip(chips, seen, strict=True))


def _first(chip: Chip, files: FileReads) -> tuple[Device | None, Sample | str]:
    device: Device | None = None
    try:
        device = chip.describe(files)
        return device, chip.read(device.key)
    except AnchorMissing as error:
        return None, f"has no {error}, which its profile needs"
    except DeviceLost as error:
        return device, str(error)


def _again(chip: Chip, device: Device | None, sample: Sample | str) -> tuple[Device | None, Sample | str]:
    if device is None:
        return device, sample
    try:
        return device, chip.read(device.key)
    except DeviceLost as error:
        return device, str(error)


def _report(chip: Chip, device: Device | None, sample: Sample | str) -> InstanceReport:
    folder = f"/{sanitise_line(chip.folder)}"
    if isinstance(sample, str):
        return InstanceReport(folder, device, None, problem=sample)
    findings = (*_metrics(chip, sample), *_pools(chip), *_throttles(chip), *_processes(chip, sample))
    return InstanceReport(folder, device, sample, findings)


def _metrics(chip: Chip, sample: Sample) -> Iterator[Finding]:
    for gauge in chip.gauges:
        metric = gauge.metric
        reading = sample.readings.get(metric.name, Absent.NOT_SUPPORTED)
        notes = []
        if not metric.verified:
            notes.append("not verified")
        if metric.requires and reading is Absent.NO_PERMISSION:
            notes.append(f"needs {metric.requires}")
        if metric.optional and isinstance(reading, Absent):
            notes.append("optional")
        yield _finding("metric", metric.id, metric.name, reading, gauge.tried, ", ".join(notes))


def _pools(chip: Chip) -> Iterator[Finding]:
    for pool_reader in chip.pool_readers:
        for name, figure in pool_reader.figures.items():
            if getattr(pool_reader.pool, name) is None:
                continue
            reading = chip.resting or pool_reader.readings.get(name, Absent.NOT_SUPPORTED)
            note = "declared" if figure.declared else "memory of the host" if pool_reader.pool.shared else ""
            yield _finding("memory", f"{pool_reader.pool.id}.{name}", "memory_used_bytes", reading, figure.tried, note)


def _throttles(chip: Chip) -> Iterator[Finding]:
    states = () if chip.resting else chip.throttle_states
    for number, throttler in enumerate(chip.throttlers):
        path = _shown_path(throttler.tried)
        state = states[number] if number < len(states) else None
        if state is None or state.absent is not None:
            absent = chip.resting if state is None else state.absent
            note = "optional" if throttler.entry.optional else ""
            yield Finding("throttle", throttler.entry.id, "", absent or Absent.ERROR, path, note)
        else:
            yield Finding("throttle", throttler.entry.id, sanitise_line(state.shown), None, path)


def _processes(chip: Chip, sample: Sample) -> Iterator[Finding]:
    if chip.pids is None or sample.processes is None:
        return
    path = _shown_path(chip.pids.tried)
    requires = chip.profile.pids.requires if chip.profile.pids is not None else ""
    if isinstance(sample.processes, Absent):
        note = f"needs {requires}" if requires and sample.processes is Absent.NO_PERMISSION else ""
        yield Finding("processes", "pids", "", sample.processes, path, note)
    else:
        text = ", ".join(f"{process.pid} {process.name or ''}".strip() for process in sample.processes)
        yield Finding("processes", "pids", text or "none", None, path, value=float(len(sample.processes)))


def _finding(kind: str, name: str, metric: str, reading: Reading, path: str, note: str) -> Finding:
    shown = _shown_path(path)
    if isinstance(reading, Absent):
        return Finding(kind, name, "", reading, shown, note)
    return Finding(kind, name, reading_text(metric, reading), None, shown, note, reading)


def _shown_path(path: str) -> str:
    return f"/{sanitise_line(path, 300)}" if path else ""
