"""What each source finds, what its devices tell, and why the rest is absent."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from hwdash.core.check import Check, Verdict
from hwdash.core.clock import SYSTEM_CLOCK
from hwdash.core.device import Device
from hwdash.core.format import absent_text
from hwdash.core.metric import METRICS
from hwdash.core.reading import Absent, Reading, is_present
from hwdash.core.sample import Fault, FaultLevel, Sample
from hwdash.core.text import sanitise_line
from hwdash.sources.nvml_session import AFTER_AN_UPDATE
from hwdash.sources.source import DeviceLost, Source, SourceUnavailable

T = TypeVar("T")

_PATIENCE_S = 10.0
"""How long the sources, which are asked side by side, may take for all; a driver that needs more hangs."""

_NOTHING = {
    "nvml": "no NVIDIA driver",
    "amdgpu": "no AMD GPU",
    "intel": "no Intel GPU",
    "chips": "no chip that a profile describes",
}

_TO_BE_ALLOWED = {
    "power_w": "the energy counters of the processor are root's since Linux 5.10: run the daemon as root, or let your "
    "user read /sys/class/powercap/intel-rapl:*/energy_uj",
    "memory_bandwidth_utilization": "the GPU's counters are the administrator's: load the nvidia module with "
    "NVreg_RestrictProfilingToAdminUsers=0, or run the daemon as root",
}
"""What to do about a metric that may not be read."""

_WAYS_OUT = {
    Absent.NO_PERMISSION: "run the daemon as a user who may read it",
    Absent.DRIVER_MISMATCH: AFTER_AN_UPDATE,
}
"""What to do about a reason for which nothing of a device can be read."""

_WORTH_SAYING = (Absent.NO_PERMISSION, Absent.DRIVER_MISMATCH, Absent.TIMED_OUT, Absent.BAD_VALUE, Absent.ERROR)
"""Reasons that somebody can do something about, or that are nobody's intention."""


@dataclass(slots=True)
class _Visit:
    """What came of asking one source, filled in by its thread. Of a device that was not read there are words instead."""

    devices: list[Device] = field(default_factory=list)
    samples: dict[str, Sample | str] = field(default_factory=dict)
    unavailable: SourceUnavailable | None = None
    error: str = ""


def examine_sources(sources: Sequence[Source], devices: list[Device], settle_s: float) -> Iterator[Check]:
    """A finding or more for each source and device; the devices found are put into *devices*."""
    visits = [_Visit() for _ in sources]
    threads = [
        threading.Thread(target=_visit, args=(source, visit, settle_s), daemon=True, name=f"doctor-{source.name}")
        for source, visit in zip(sources, visits, strict=True)
    ]
    until_s = SYSTEM_CLOCK.monotonic() + _PATIENCE_S + settle_s
    for thread in threads:
        thread.start()
    for source, visit, thread in zip(sources, visits, threads, strict=True):
        thread.join(max(0.0, until_s - SYSTEM_CLOCK.monotonic()))
        devices += visit.devices
        yield from _source_checks(source, visit, hangs=thread.is_alive())


def _visit(source: Source, visit: _Visit, settle_s: float) -> None:
    try:
        found = list(source.discover())
        for device in found:
            _read(source, device, visit)
        if any(_waits(sample) for sample in visit.samples.values()):
            threading.Event().wait(settle_s)
            for device in found:
                _read(source, device, visit)
        visit.devices = found
    except SourceUnavailable as problem:
        visit.unavailable = problem
    except Exception as error:  # noqa: BLE001 - a driver may raise anything; it is a finding
        visit.error = _words_of(error)
    finally:
        with contextlib.suppress(Exception):  # nothing is left to be found out
            source.close()


def _read(source: Source, device: Device, visit: _Visit) -> None:
    try:
        visit.samples[device.key] = source.read(device.key)
    except DeviceLost as lost:
        visit.samples[device.key] = f"lost: {sanitise_line(str(lost), 400) or 'the device is gone'}"
    except SourceUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - a driver may raise anything; the other devices are read all the same
        visit.samples[device.key] = f"reading it failed: {_words_of(error)}"


def _words_of(error: Exception) -> str:
    return sanitise_line(f"{type(error).__name__}: {error}", 400)


def _waits(sample: Sample | str) -> bool:
    return isinstance(sample, Sample) and Absent.FIRST_SAMPLE in sample.readings.values()


def _source_checks(source: Source, visit: _Visit, *, hangs: bool) -> Iterator[Check]:
    name = source.name
    if hangs:
        words = f"no answer within {_PATIENCE_S:.0f} s: its driver hangs"
        yield Check(name, Verdict.FAIL, words, "see dmesg; the other devices are watched all the same")
    elif visit.error:
        yield Check(name, Verdict.FAIL, f"finding devices failed: {visit.error}", "see dmesg and the daemon's log")
    elif visit.unavailable is not None and visit.unavailable.words:
        words, fix = sanitise_line(visit.unavailable.words, 400), sanitise_line(visit.unavailable.fix, 400)
        yield Check(name, Verdict.FAIL, words, fix)
        return  # what was left out is all there is, and has been told
    elif not visit.devices:
        yield Check(name, Verdict.SKIP, _NOTHING.get(name, "nothing found"))
    if source.problem:
        yield Check(name, Verdict.FAIL, sanitise_line(source.problem, 400))
    for device in visit.devices:
        yield from _device_checks(name, device, visit.samples[device.key])


def _device_checks(name: str, device: Device, sample: Sample | str) -> Iterator[Check]:
    title = f"{device.name} ({device.pci})" if device.pci else device.name
    if isinstance(sample, str):
        yield Check(name, Verdict.FAIL, f"{title}: {sample}")
        return
    if sample.readings and all(reading is Absent.SUSPENDED for reading in sample.readings.values()):
        yield Check(name, Verdict.OK, f"{title}: asleep, and left so")
        return
    if not sample.readings and device.runtime is not None and device.runtime.url is not None:
        yield Check(name, Verdict.OK, f"{title}: answers at {device.runtime.url}")
        return
    numbers = sum(is_present(reading) for reading in sample.readings.values())
    why_none = None if numbers else _one_reason(sample)
    if numbers:
        throttle = f", {len(sample.throttle_known)} throttle reasons" if sample.throttle_known else ""
        yield Check(name, Verdict.OK, f"{title}: {numbers} readings{throttle}")
    elif why_none is not None:
        fix = _WAYS_OUT.get(why_none, "see dmesg and the daemon's log")
        yield Check(name, Verdict.FAIL, f"{title}: all readings: {absent_text(why_none)}", fix)
    else:
        yield Check(name, Verdict.WARN, f"{title}: no readings", "neither its driver nor /proc and /sys tell of it")
    for fault in sample.faults:
        yield _fault_check(name, fault)
    yield from _absent_checks(name, title, sample, why_none)


def _one_reason(sample: Sample) -> Absent | None:
    """Why there is no reading at all, where it is the same for all that the device has."""
    reasons = {reading for reading in sample.readings.values() if isinstance(reading, Absent)}
    reasons.discard(Absent.NOT_SUPPORTED)
    return next(iter(reasons)) if len(reasons) == 1 and reasons <= set(_WORTH_SAYING) else None


def _absent_checks(name: str, title: str, sample: Sample, told: Absent | None) -> Iterator[Check]:
    """What cannot be read, by reason; but the one that was *told* of all."""
    for reason in (reason for reason in _WORTH_SAYING if reason is not told):
        metrics = [metric for metric, reading in _all_readings(sample) if reading is reason]
        if metrics:
            titles = ", ".join(METRICS[metric].title if metric in METRICS else metric for metric in metrics)
            fix = next((_TO_BE_ALLOWED[metric] for metric in metrics if metric in _TO_BE_ALLOWED), "")
            fix = fix if reason is Absent.NO_PERMISSION else ""
            yield Check(name, Verdict.WARN, f"{title}: {titles}: {absent_text(reason)}", fix)


def _all_readings(sample: Sample) -> Iterator[tuple[str, Reading]]:
    yield from sample.readings.items()
    if isinstance(sample.processes, Absent):
        yield "processes", sample.processes


def _fault_check(name: str, fault: Fault) -> Check:
    return Check(name, Verdict.WARN if fault.level is FaultLevel.WARNING else Verdict.FAIL, fault.words)
