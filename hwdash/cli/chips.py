"""``hwdash chips``: the chip profiles there are, and one tried on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hwdash.cli.output import print_json, table_text
from hwdash.core.device import Device
from hwdash.core.errors import UsageError
from hwdash.core.format import absent_text, reading_text
from hwdash.core.paths import paths_from
from hwdash.core.text import sanitise_line
from hwdash.core.wire import to_wire

if TYPE_CHECKING:
    from hwdash.daemon.chips import Finding, ProfileCheck, ProfileList

_LIMITS = {
    "power_w": "power_w",
    "clock_hz": "clock_hz",
    "temperature_slowdown_c": "temperature_c",
    "temperature_shutdown_c": "temperature_c",
    "memory_temperature_max_c": "temperature_c",
    "memory_bandwidth_bytes_per_s": "memory_read_bytes_per_s",
}
"""The limits that a profile can tell, with a metric of the same unit."""


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add ``chips`` with its two verbs."""
    parser = command("chips", "chip profiles: list them, check one on this machine")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="the profiles in use and the devices that they find")
    listing.set_defaults(run=_list)
    check = verbs.add_parser("check", help="try a profile: every value, or why it is absent")
    check.add_argument("file", metavar="FILE", type=Path, help="a profile (TOML), see docs/chips.md")
    check.set_defaults(run=_check)
    for verb in (listing, check):
        verb.add_argument("--sysroot", metavar="DIR", help="read /sys and /proc below DIR (default: HWDASH_SYSROOT)")
        verb.add_argument("--json", action="store_true", help="one JSON document")


def _sysroot(parsed: argparse.Namespace) -> Path:
    from hwdash.daemon.hardware import sysroot

    if parsed.sysroot is None:
        return sysroot()
    if not parsed.sysroot or not Path(parsed.sysroot).is_dir():
        raise UsageError(f"--sysroot: {parsed.sysroot!r} is not a directory", param="sysroot")
    return Path(parsed.sysroot)


def _list(parsed: argparse.Namespace) -> int:
    from hwdash.daemon.chips import known_profiles

    listing = known_profiles(_sysroot(parsed), paths_from(os.environ).config / "chips")
    if parsed.json:
        print_json(to_wire(listing))
        return 0
    print(_list_text(listing))
    for problem in listing.problems:
        print(sanitise_line(problem, 1000), file=sys.stderr)
    return 0


def _list_text(listing: ProfileList) -> str:
    rows = [
        (
            profile.id,
            profile.vendor,
            str(profile.kind),
            str(len(profile.folders)),
            "built in" if profile.builtin else sanitise_line(profile.origin),
        )
        for profile in listing.profiles
    ]
    return table_text(("PROFILE", "VENDOR", "KIND", "DEVICES", "FROM"), rows, right=frozenset({3}))


def _check(parsed: argparse.Namespace) -> int:
    from hwdash.daemon.chips import check_profile

    check = check_profile(parsed.file, _sysroot(parsed), _say_waiting)
    if parsed.json:
        print_json(to_wire(check))
    elif not check.problems:
        print("\n".join(_check_lines(check)))
    for problem in check.problems:
        print(sanitise_line(str(problem), 1000), file=sys.stderr)
    if check.problems:
        return 2
    if not any(instance.sample for instance in check.instances):
        found = "nothing that it finds can be read" if check.instances else f"it finds nothing: {check.advice}"
        print(f"hwdash: {sanitise_line(f'{check.origin} is valid, and {found}', 1000)}", file=sys.stderr)
        return 1
    return 0


def _say_waiting(seconds: float) -> None:
    if sys.stderr.isatty():
        print(f"reading twice, {seconds:g} s apart, for the rates of counters", file=sys.stderr)


def _check_lines(check: ProfileCheck) -> Iterator[str]:
    profile = check.profile
    assert profile is not None
    many = "1 device" if len(check.instances) == 1 else f"{len(check.instances)} devices"
    yield f"{profile.id}: {profile.vendor}, {profile.kind}, {many}"
    for instance in check.instances:
        device, sample = instance.device, instance.sample
        yield ""
        yield f"{device.name} at {instance.folder}" if device is not None else instance.folder
        if instance.problem:
            yield f"  problem: {instance.problem}"
        if device is None:
            continue
        rows = _rows(device, instance.findings, check)
        header = ("PART", "NAME", "VALUE", "FROM", "FILE")
        yield from (f"  {line}" for line in table_text(header, rows).splitlines())
        for fault in sample.faults if sample is not None else ():
            yield f"  {fault.level}: {fault.words}"


def _rows(device: Device, findings: Sequence[Finding], check: ProfileCheck) -> Iterator[tuple[str, ...]]:
    """The parts of a profile in their order: what was found, what the file says, and the file or why there is nothing."""
    found = [(finding.kind, finding.name, *_cells(finding, check)) for finding in findings]
    yield from (("identity", name, value, "", "") for name, value in _facts(device))
    yield from (row for row in found if row[0] in ("identity", "status"))
    told = {row[1] for row in found if row[0] == "limit"}
    for name, metric in _LIMITS.items():
        if name not in told and (value := getattr(device.limits, name)) is not None:
            yield "limit", name, reading_text(metric, value), "", ""
    yield from (row for row in found if row[0] not in ("identity", "status"))


def _facts(device: Device) -> Iterator[tuple[str, str]]:
    for name in ("key", "vendor", "pci", "driver", "firmware", "visible_as"):
        if value := getattr(device, name):
            yield name, value
    if device.capabilities.dtypes:
        yield "dtypes", " ".join(device.capabilities.dtypes)
    if device.runtime is not None:
        yield "runtime", device.runtime.url or f"torch {device.runtime.torch_device}"


def _cells(finding: Finding, check: ProfileCheck) -> tuple[str, str, str]:
    """The value, the text that it comes from, and the file; for what is absent also why."""
    note = f" ({finding.note})" if finding.note else ""
    sought = check.looked.get(part := f"{finding.kind} {finding.name}", "")
    if finding.absent is None:
        file = sought if part in check.reduced else finding.path or sought
        return f"{finding.text}{note}", finding.raw, file or "-"
    place = finding.path or ("" if finding.why else sought and f"nothing at {sought}")
    why = ": ".join(text for text in (place, finding.why) if text)
    return f"n/a: {absent_text(finding.absent)}{note}", "", why or "-"
