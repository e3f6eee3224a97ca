"""Reports of ``hwdash bench`` and ``hwdash soak`` as rows: whole, as JSON."""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from hwdash.core.wire import dumps, from_wire, loads, to_wire
from hwdash.store.register import Register
from hwdash.store.stamp import from_ms, to_ms
from hwdash.store.text import encodable

log = logging.getLogger(__name__)

R = TypeVar("R")

BENCH, SOAK = "bench", "soak"
"""The kinds of reports."""
MOST_KEPT = 200
"""So many of the newest reports of each device and kind are kept."""

# IGNORE: a report is written again when its first commit was not seen to succeed.
REPORT_SQL = "INSERT OR IGNORE INTO bench(uid, ts, dev, kind, model, report) VALUES(?, ?, ?, ?, ?, ?)"

_READ_SQL = """SELECT uid, ts, key, bench.kind, model, report FROM bench JOIN device ON device.id = dev
    WHERE bench.kind = ?1 AND (?2 IS NULL OR key = ?2) AND (?3 IS NULL OR model = ?3)
    ORDER BY ts DESC, bench.id DESC LIMIT ?4"""

SURPLUS_SQL = f"""DELETE FROM bench WHERE id IN (SELECT id FROM (
    SELECT id, row_number() OVER (PARTITION BY dev, kind ORDER BY ts DESC, id DESC) AS number FROM bench)
    WHERE number > {MOST_KEPT})"""  # noqa: S608 - a number of our own
"""Deletes all but the newest `MOST_KEPT` reports of each device and kind."""


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report of *kind*, made at ``at`` of the device *device_key* with *model*; ``report`` is its JSON."""

    uid: str
    at: datetime
    device_key: str
    kind: str
    model: str
    report: bytes

    @classmethod
    def of(cls, kind: str, uid: str, at: datetime, device_key: str, model: str, report: object) -> StoredReport:
        """What is stored of *report*, a value of the vocabulary."""
        return cls(uid, at, device_key, kind, model, dumps(to_wire(report)))

    def decoded(self, kind: type[R]) -> R | None:
        """The report as a *kind*; None for one that this version does not understand."""
        try:
            return from_wire(loads(self.report), kind)
        except ValueError as error:
            log.warning("the %s report %s cannot be read: %s", self.kind, self.uid, error)
            return None


def report_row(register: Register, report: StoredReport) -> tuple[object, ...]:
    """The values of `REPORT_SQL`."""
    ts = to_ms(report.at)
    device = register.device(report.device_key, ts)
    return report.uid, ts, device, report.kind, encodable(report.model), report.report.decode()


def read_reports(
    connection: sqlite3.Connection, kind: str, device_key: str | None, model: str | None, limit: int
) -> tuple[StoredReport, ...]:
    """The newest *limit* reports of *kind*, oldest first, of one device and model or of all. Raises ``sqlite3.Error``."""
    rows = connection.execute(_READ_SQL, (kind, device_key, model, limit)).fetchall()
    return tuple(
        StoredReport(uid, from_ms(ts), key, found, name, text.encode())
        for uid, ts, key, found, name, text in reversed(rows)
    )
