"""Probes as rows, what came of them over time, and the newest ones to learn from after a start."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from hwdash.core.group import id_of
from hwdash.core.percentile import nearest_rank
from hwdash.core.probe import ProbeOutcome, ProbeResult, Uptime, UptimeHistory, UptimeWindow
from hwdash.store.column import scaled
from hwdash.store.register import Register
from hwdash.store.stamp import from_ms, to_ms
from hwdash.store.text import encodable_or_none

WINDOWS_S = (3600.0, 86_400.0, 604_800.0)
"""Uptime is told over 1 h, 24 h and 7 d."""
LEARNT_S = WINDOWS_S[-1]
"""So far back goes what is learnt from after a start."""
MOST_TOLD = 200
"""Of each device and model, so many of the newest probes are told one by one …"""
MOST_LEARNT = 10_080
"""… and so many learnt from: those of a week at one a minute."""

PROBE_SQL = """INSERT INTO probe(ts, dev, model, dtype, driver, outcome, ttft_us, itl_us, total_us, tokens,
    digest, expected, drift_permille, error) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_COLUMNS = (
    "ts, model, dtype, driver, outcome, ttft_us, itl_us, total_us, tokens, digest, expected, drift_permille, error"
)


@dataclass(frozen=True, slots=True)
class StoredProbe:
    """A probe, and the driver and versions it was made with; what they were decides what it may be compared with."""

    result: ProbeResult
    driver: str


def probe_row(register: Register, probe: StoredProbe) -> tuple[object, ...]:
    """The values of `PROBE_SQL`."""
    result = probe.result
    ts = to_ms(result.at)
    return (
        ts,
        register.device(result.device_key, ts),
        encodable_or_none(result.model),
        encodable_or_none(result.dtype),
        encodable_or_none(probe.driver),
        result.outcome.value,
        scaled(result.ttft_s, 1e6),
        scaled(result.itl_s, 1e6),
        scaled(result.total_s, 1e6),
        result.tokens,
        encodable_or_none(result.digest),
        encodable_or_none(result.expected),
        None if result.drift is None else round(result.drift * 1000),
        encodable_or_none(result.error),
    )


def read_uptime(
    connection: sqlite3.Connection, now: datetime, since_s: float, device_key: str | None, ids: Mapping[str, str]
) -> UptimeHistory:
    """How each device and model stood its probes before *now*: of the device *device_key*, or of all.

    Over `WINDOWS_S`, and the last *since_s* seconds where that is another window; the newest `MOST_TOLD` probes of
    these. *ids* gives today's short id for a key. Raises ``sqlite3.Error``.
    """
    until = to_ms(now)
    windows = sorted({*WINDOWS_S, min(since_s, 1e9)})
    since = max(0, until - round(min(since_s, 1e9) * 1000))
    uptimes: list[Uptime] = []
    probes: list[ProbeResult] = []
    for dev, key in _devices(connection, device_key):
        name = id_of(ids, key)
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM probe WHERE dev = ? AND ts >= ? AND ts <= ? ORDER BY ts, id",  # noqa: S608
            (dev, max(0, until - round(windows[-1] * 1000)), until),
        )
        for model, found in sorted(_by_model(rows).items()):
            told = [row for row in found if row[0] >= since][-MOST_TOLD:]
            probes += [_result(row, name, key).result for row in told]
            last = _result(found[-1], name, key).result
            uptimes.append(Uptime(name, key, model, tuple(_window(found, until, size) for size in windows), last))
    probes.sort(key=lambda probe: probe.at)
    uptimes.sort(key=lambda item: (item.device, item.model))
    return UptimeHistory(from_ms(since), from_ms(until), tuple(uptimes), tuple(probes))


def read_probes(connection: sqlite3.Connection, now: datetime, ids: Mapping[str, str]) -> tuple[StoredProbe, ...]:
    """The probes of the last `LEARNT_S`, at most `MOST_LEARNT` of each device, oldest first. Raises ``sqlite3.Error``."""
    since = to_ms(now) - round(LEARNT_S * 1000)
    found: list[StoredProbe] = []
    for dev, key in _devices(connection, None):
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM probe WHERE dev = ? AND ts >= ? ORDER BY ts DESC, id DESC LIMIT ?",  # noqa: S608
            (dev, since, MOST_LEARNT),
        ).fetchall()
        found += [_result(row, id_of(ids, key), key) for row in reversed(rows) if _is_sound(row)]
    found.sort(key=lambda probe: probe.result.at)
    return tuple(found)


_OUTCOMES = frozenset(outcome.value for outcome in ProbeOutcome)
_Row = tuple[
    int, str, str | None, str, str, int | None, int | None, int | None, int, str, str, int | None, str | None
]  # fmt: skip


def _devices(connection: sqlite3.Connection, device_key: str | None) -> list[tuple[int, str]]:
    sql = "SELECT id, key FROM device WHERE ?1 IS NULL OR key = ?1 ORDER BY id"
    return connection.execute(sql, (device_key,)).fetchall()


def _by_model(rows: sqlite3.Cursor) -> dict[str, list[_Row]]:
    models: dict[str, list[_Row]] = {}
    for row in filter(_is_sound, rows):
        models.setdefault(row[1], []).append(row)
    return models


def _is_sound(row: _Row) -> bool:
    """False for a row that something else has written to: it is passed over."""
    return (
        isinstance(row[0], int)
        and row[4] in _OUTCOMES
        and all(isinstance(text, str) for text in (row[1], row[3], row[9], row[10]))
        and isinstance(row[8], int)
        and all(number is None or isinstance(number, int) for number in (*row[5:8], row[11]))
    )


def _window(rows: Sequence[_Row], until: int, size_s: float) -> UptimeWindow:
    begin = until - round(size_s * 1000)
    found = [row for row in rows if row[0] >= begin]
    good = [row for row in found if row[4] == ProbeOutcome.OK]
    ttft = sorted(row[5] for row in good if row[5] is not None)
    itl = sorted(row[6] for row in good if row[6] is not None)
    return UptimeWindow(
        size_s,
        len(found),
        sum(row[4] == ProbeOutcome.FAILED for row in found),
        sum(row[4] == ProbeOutcome.WRONG for row in found),
        len(good) / len(found) if found else None,
        _share(ttft, 50),
        _share(ttft, 99),
        _share(itl, 50),
        _share(itl, 99),
    )


def _share(ordered_us: Sequence[int], percent: int) -> float | None:
    return nearest_rank(ordered_us, percent) / 1e6 if ordered_us else None


def _result(row: _Row, device: str, key: str) -> StoredProbe:
    ts, model, dtype, driver, outcome, ttft, itl, total, tokens, digest, expected, drift, error = row
    result = ProbeResult(
        from_ms(ts),
        device,
        key,
        model,
        ProbeOutcome(outcome),
        _seconds(ttft),
        _seconds(itl),
        _seconds(total),
        tokens,
        dtype,
        digest,
        expected,
        None if drift is None else drift / 1000,
        error,
    )
    return StoredProbe(result, driver)


def _seconds(micros: int | None) -> float | None:
    return None if micros is None else micros / 1e6
