"""What each part of a profile says at one device, or why it says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hwdash.core.device import Device, Limits
from hwdash.core.format import reading_text
from hwdash.core.metric import METRICS
from hwdash.core.reading import Absent, Reading, is_present
from hwdash.core.sample import Sample
from hwdash.core.text import sanitise_line
from hwdash.sources.chips.cause import Inquiry, implausible, quoted
from hwdash.sources.chips.chip import Chip
from hwdash.sources.chips.file_read import FileReads
from hwdash.sources.chips.metric import Metric, ThrottleKind
from hwdash.sources.chips.origin import Number
from hwdash.sources.chips.profile import IDENTITY_FACTS
from hwdash.sources.chips.quantity import LIMIT_OF, LIMITS, Dimension, dimension_of
from hwdash.sources.chips.throttle import Throttler


@dataclass(frozen=True, slots=True)
class Finding:
    """One part of a profile at one device.

    ``kind`` is ``identity``, ``status``, ``limit``, ``metric``, ``memory``, ``throttle`` or ``processes``; ``name`` that
    of the profile. An identity is told of when it is absent, a limit when a file has it or it is absent. ``text`` is the
    value for a person, empty when it is ``absent``; ``why`` says more of the reason. ``value`` is its number in the base
    unit where it is one, ``raw`` what the file says, in quotes. ``path`` is the file that was read or tried, with a
    leading slash, empty when there was none to try. ``note`` says what is special: ``declared``, ``not verified``,
    ``needs root``, ``optional``.
    """

    kind: str
    name: str
    text: str = ""
    absent: Absent | None = None
    path: str = ""
    note: str = ""
    value: float | None = None
    raw: str = ""
    why: str = ""


def findings_of(chip: Chip, device: Device, sample: Sample, files: FileReads, sysroot: Path) -> tuple[Finding, ...]:
    """Everything that *sample* of *chip*, read through *files*, was made of. Looks at files that failed again."""
    ask = Inquiry(sysroot, chip.place, chip.facts, files)
    return (
        *_identity(chip, ask),
        *_status(chip, files, ask),
        *(() if chip.resting else _limits(chip, device.limits, files, ask)),
        *_metrics(chip, sample, ask),
        *_pools(chip, ask),
        *_throttles(chip, ask),
        *_processes(chip, sample, ask),
    )


def exact_text(dimension: Dimension, value: float) -> str:
    """*value*, in the base unit of *dimension*, with one digit more than a dashboard has room for."""
    if dimension is Dimension.TEMPERATURE:
        return f"{_short(value, 1)} °C"
    if dimension is Dimension.POWER:
        return f"{_short(value, 1 if abs(value) >= 10 else 2)} W"
    if dimension is Dimension.FREQUENCY:
        return f"{_short(value / 1e6, 1)} MHz"
    return f"{_short(value * 100, 1)}%"


_EXACT = frozenset({Dimension.TEMPERATURE, Dimension.POWER, Dimension.FREQUENCY, Dimension.RATIO})


def _short(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _identity(chip: Chip, ask: Inquiry) -> Iterator[Finding]:
    identity = chip.profile.identity
    for name in IDENTITY_FACTS:
        if not chip.facts.get(name):
            path, why = ask.facts(getattr(identity, name))
            if why:
                why += "; the directory's name stands in for it" if name == "key" else ""
                yield Finding("identity", name, absent=Absent.NOT_SUPPORTED, path=_shown_path(path), why=why)


def _status(chip: Chip, files: FileReads, ask: Inquiry) -> Iterator[Finding]:
    status = chip.profile.status
    if status is None or chip.resting is Absent.SUSPENDED:
        return
    path = chip.place.path(status.path, files)
    text = Absent.NOT_SUPPORTED if path is None else files.first(path, status.parse)
    shown = _shown_path(path or "")
    if isinstance(text, Absent):
        yield Finding("status", "status", absent=text, path=shown, why=ask.text(status.path, status.parse))
        return
    meaning = status.mapping.get(text, status.other)
    yield Finding("status", "status", str(meaning or "not in its map"), None, shown, raw=quoted(text))


def _limits(chip: Chip, limits: Limits, files: FileReads, ask: Inquiry) -> Iterator[Finding]:
    """The limits that come from files, and those that are absent."""
    numbers = dict(chip.profile.edges.numbers)
    beside: dict[str, Metric] = {}
    for metric in chip.profile.metrics:
        name = LIMIT_OF.get(metric.name, "")
        if metric.limit is None or name in numbers or name in beside:
            continue
        if metric.limit.number is not None:
            numbers[name] = metric.limit.number
        else:
            beside[name] = metric
    for name, number in numbers.items():
        value = getattr(limits, name)
        if value is None:
            read = ask.value(number)
            absent = read if isinstance(read, Absent) else Absent.BAD_VALUE
            why = implausible(read, LIMITS[name]) if is_present(read) else ask.number(number)
            yield Finding("limit", name, absent=absent, path=_shown_path(ask.tried(number)), why=why)
        else:
            text, path = exact_text(LIMITS[name], value), _shown_path(ask.tried(number))
            note = "declared" if number.declared is not None else ""
            yield Finding("limit", name, text, None, path, note, value, ask.raw(number))
    for name, metric in beside.items():
        yield _beside(name, metric, getattr(limits, name), files, ask)


def _beside(name: str, metric: Metric, value: float | None, files: FileReads, ask: Inquiry) -> Finding:
    """The limit *name* of a device, from the file beside that of *metric*."""
    assert metric.limit is not None
    path = ask.beside(metric.number, metric.limit.suffix)
    said = files.first(path, None) if path else Absent.NOT_SUPPORTED
    if isinstance(said, Absent):
        why = ask.file(path) if path else ask.number(metric.number)
        return Finding("limit", name, absent=said, path=_shown_path(path), why=why)
    if value is None:
        why = f"{quoted(said)} is no plausible limit; is the unit right?"
        return Finding("limit", name, absent=Absent.BAD_VALUE, path=_shown_path(path), why=why)
    text = exact_text(LIMITS[name], value)
    return Finding("limit", name, text, None, _shown_path(path), value=value, raw=quoted(said, 24))


def _metrics(chip: Chip, sample: Sample, ask: Inquiry) -> Iterator[Finding]:
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
        why = ""
        if isinstance(reading, Absent):
            why = _rest(chip) or ask.metric(metric, dimension_of(METRICS[metric.name]))
        raw = ask.raw(metric.number) if is_present(reading) else ""
        yield _finding("metric", metric.id, metric.name, reading, gauge.tried, ", ".join(notes), raw, why)


def _pools(chip: Chip, ask: Inquiry) -> Iterator[Finding]:
    for pool_reader in chip.pool_readers:
        pool = pool_reader.pool
        for name, figure in pool_reader.figures.items():
            number: Number | None = getattr(pool, name)
            if number is None:
                continue
            reading = chip.resting or pool_reader.readings.get(name, Absent.NOT_SUPPORTED)
            note = "declared" if figure.declared else "memory of the host" if pool.shared else ""
            why = ""
            if isinstance(reading, Absent):
                why = _rest(chip) or ask.number(number) or _misfit(ask.value(number))
            raw = ask.raw(number) if is_present(reading) else ""
            yield _finding("memory", f"{pool.id}.{name}", "memory_used_bytes", reading, figure.tried, note, raw, why)


def _misfit(value: Reading) -> str:
    if not is_present(value):
        return ""
    if not 0 <= value <= 2.0**60:
        return implausible(value, Dimension.BYTES)
    return f"{reading_text('memory_used_bytes', value)} does not fit the other figures of the pool"


def _throttles(chip: Chip, ask: Inquiry) -> Iterator[Finding]:
    states = () if chip.resting else chip.throttle_states
    for number, throttler in enumerate(chip.throttlers):
        entry, path = throttler.entry, _shown_path(throttler.tried)
        state = states[number] if number < len(states) else None
        if state is None or state.absent is not None:
            absent = chip.resting if state is None else state.absent
            note = "optional" if entry.optional else ""
            why = _rest(chip) or _untold(throttler, ask)
            yield Finding("throttle", entry.id, "", absent or Absent.ERROR, path, note, why=why)
        else:
            raw = "" if entry.kind is ThrottleKind.DECODER else ask.raw(Number((entry.origin,)))
            yield Finding("throttle", entry.id, sanitise_line(state.shown), None, path, raw=raw)


def _untold(throttler: Throttler, ask: Inquiry) -> str:
    entry = throttler.entry
    if entry.kind is ThrottleKind.DECODER:
        why = ask.unreadable(throttler.tried) if throttler.tried else ask.paths(list(entry.origin.paths))
        return why or f"no table that {entry.decoder} knows, or one without these figures"
    why = ask.number(Number((entry.origin,)))
    return why or ("no number of bits from 0 on" if entry.kind is ThrottleKind.BITS else "")


def _processes(chip: Chip, sample: Sample, ask: Inquiry) -> Iterator[Finding]:
    pids = chip.profile.pids
    if chip.pids is None or pids is None or sample.processes is None:
        return
    path = _shown_path(chip.pids.tried)
    if isinstance(sample.processes, Absent):
        note = f"needs {pids.requires}" if pids.requires and sample.processes is Absent.NO_PERMISSION else ""
        why = _rest(chip) or ask.number(Number((pids.origin,)))
        yield Finding("processes", "pids", "", sample.processes, path, note, why=why)
    else:
        text = ", ".join(f"{process.pid} {process.name or ''}".strip() for process in sample.processes)
        yield Finding("processes", "pids", text or "none", None, path, value=float(len(sample.processes)))


def _rest(chip: Chip) -> str:
    """Why nothing was read at all; empty when it was."""
    if chip.resting is None:
        return ""
    return "it sleeps, see [guard]" if chip.resting is Absent.SUSPENDED else "its status says that it cannot be read"


def _finding(kind: str, name: str, metric: str, reading: Reading, path: str, note: str, raw: str, why: str) -> Finding:
    shown = _shown_path(path)
    if isinstance(reading, Absent):
        return Finding(kind, name, "", reading, shown, note, why=why)
    dimension = dimension_of(METRICS[metric])
    text = exact_text(dimension, reading) if dimension in _EXACT else reading_text(metric, reading)
    return Finding(kind, name, text, None, shown, note, reading, raw)


def _shown_path(path: str) -> str:
    return f"/{sanitise_line(path, 300)}" if path else ""
