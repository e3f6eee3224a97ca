"""Statuses, events and records as rows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime

from hwdash.core.event import Event, EventKind
from hwdash.core.inference import InferenceRecord
from hwdash.core.reading import Absent
from hwdash.core.snapshot import DeviceStatus
from hwdash.core.trial import DeviceTrial
from hwdash.store.bench import REPORT_SQL, StoredReport, report_row
from hwdash.store.column import COLUMNS, HEALTH_CODES, scaled, throttle_columns, throttle_mask
from hwdash.store.probe import PROBE_SQL, StoredProbe, probe_row
from hwdash.store.register import Register, Statement
from hwdash.store.stamp import to_ms
from hwdash.store.text import encodable_or_none
from hwdash.store.trial import TRIAL_SQL, trial_row

_SAMPLE_COLUMNS = (
    "ts", "dev", *(column.name for column in COLUMNS), "throttle", "throttle_permille", "health", "absent",
)  # fmt: skip
_EVENT_COLUMNS = (
    "ts", "dev", "run", "kind", "severity", "words", "before", "after", "reasons", "throttle", "suspected",
    "rule", "active",
)  # fmt: skip
_INFERENCE_COLUMNS = (
    "uid", "ts", "dev", "model", "dtype", "origin", "requested", "fallback_from", "finish", "error",
    "tokens_prompt", "tokens_completion", "queue_us", "cold_start_us", "ttft_us", "itl_p50_us", "itl_p99_us",
    "total_us", "tokens_per_ks", "energy_mj", "energy_per_token_uj", "energy_scope", "throttle",
    "temperature_max_mc", "clock_min_khz", "energy_share_permille", "energy_idle_mj",
)  # fmt: skip


def _insert(verb: str, table: str, columns: tuple[str, ...]) -> str:
    return f"{verb} INTO {table}({', '.join(columns)}) VALUES({', '.join('?' * len(columns))})"


# REPLACE: a wall clock that was set back meets its own rows again, and the newer reading holds.
_SAMPLE_SQL = _insert("INSERT OR REPLACE", "sample", _SAMPLE_COLUMNS)
_EVENT_SQL = _insert("INSERT", "event", _EVENT_COLUMNS)
# IGNORE: a record is written again when its first commit was not seen to succeed.
_INFERENCE_SQL = _insert("INSERT OR IGNORE", "inference", _INFERENCE_COLUMNS)


def statements(
    register: Register,
    run: int,
    samples: Iterable[DeviceStatus],
    events: Iterable[Event],
    records: Iterable[InferenceRecord],
    probes: Iterable[StoredProbe] = (),
    reports: Iterable[StoredReport] = (),
    trials: Iterable[DeviceTrial] = (),
) -> list[Statement]:
    """Everything that one transaction writes, in order; what has no rows is left out."""
    rows: list[Statement] = [
        (_SAMPLE_SQL, [_sample_row(register, status) for status in samples]),
        (_EVENT_SQL, [_event_row(register, run, event) for event in events]),
        (_INFERENCE_SQL, [_inference_row(register, record) for record in records]),
        (PROBE_SQL, [probe_row(register, probe) for probe in probes]),
        (REPORT_SQL, [report_row(register, report) for report in reports]),
        (TRIAL_SQL, [trial_row(register, trial) for trial in trials]),
    ]
    return [statement for statement in register.statements() + rows if statement[1]]


def deletions(moment: datetime) -> list[Statement]:
    """Whatever deletes all samples and events of *moment* and later, but for the health as of that very moment."""
    ts = to_ms(moment)
    return [
        ("DELETE FROM sample WHERE ts >= ?", [(ts,)]),
        ("DELETE FROM event WHERE ts > ? OR (ts = ? AND kind <> ?)", [(ts, ts, EventKind.HEALTH.value)]),
    ]


def _sample_row(register: Register, status: DeviceStatus) -> tuple[object, ...]:
    assert status.sampled_at is not None
    ts = to_ms(status.sampled_at)
    device = register.device(status.device.key, ts, status.device)
    register.last_ts[device] = ts
    values: list[int | None] = []
    absent: dict[str, Absent] = {}
    for column in COLUMNS:
        reading = status.readings.get(column.metric)
        value = None
        if isinstance(reading, Absent):
            absent[column.metric] = reading
        elif reading is not None and (value := column.stored(reading)) is None:
            absent[column.metric] = Absent.BAD_VALUE
        values.append(value)
    health = HEALTH_CODES[status.health.state]
    return (ts, device, *values, *throttle_columns(status.throttle), health, register.absent_set(absent))


def _event_row(register: Register, run: int, event: Event) -> tuple[object, ...]:
    ts = to_ms(event.at)
    return (
        ts,
        register.device(event.key, ts),
        run,
        event.kind.value,
        event.severity.value,
        encodable_or_none(event.words),
        None if event.before is None else event.before.value,
        None if event.after is None else event.after.value,
        encodable_or_none(json.dumps(event.reasons, ensure_ascii=False)),
        json.dumps(event.throttle),
        event.suspected,
        encodable_or_none(event.rule),
        event.active,
    )


def _inference_row(register: Register, record: InferenceRecord) -> tuple[object, ...]:
    ts = to_ms(record.started_at)
    timing, energy, conditions = record.timing, record.energy, record.conditions
    return (
        encodable_or_none(record.id),
        ts,
        register.device(record.device_key, ts),
        encodable_or_none(record.model),
        encodable_or_none(record.dtype),
        encodable_or_none(record.origin),
        encodable_or_none(record.route.requested),
        encodable_or_none(record.route.fallback_from),
        record.finish_reason.value,
        encodable_or_none(record.error),
        record.tokens.prompt,
        record.tokens.completion,
        scaled(timing.queue_s, 1e6),
        scaled(timing.cold_start_s, 1e6),
        scaled(timing.ttft_s, 1e6),
        scaled(timing.itl_p50_s, 1e6),
        scaled(timing.itl_p99_s, 1e6),
        scaled(timing.total_s, 1e6),
        scaled(timing.tokens_per_s, 1e3),
        None if energy is None else scaled(energy.joules, 1e3),
        None if energy is None else scaled(energy.joules_per_token, 1e6),
        None if energy is None else encodable_or_none(energy.scope),
        throttle_mask(conditions.throttle),
        scaled(conditions.temperature_max_c, 1e3),
        scaled(conditions.clock_min_hz, 1e-3),
        None if energy is None else scaled(energy.share, 1e3),
        None if energy is None else scaled(energy.idle_joules, 1e3),
    )
