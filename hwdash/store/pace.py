"""How the newest answers of each device went, to learn from after a start."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from dataclasses import dataclass

MOST = 20
"""So many answers of one model on one device say how fast it is."""
_SEARCHED = 1000
"""So many of the newest answers of a device are looked through, whatever their models."""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The figures of one finished answer in seconds and joules; None where there was nothing to measure.

    ``ttft_s`` is without cold start and without waiting for others, ``itl_s`` the time from token to token over the
    whole answer.
    """

    device_key: str
    model: str
    ttft_s: float | None = None
    itl_s: float | None = None
    cold_start_s: float | None = None
    joules_per_token: float | None = None


def read_answers(connection: sqlite3.Connection) -> tuple[StoredAnswer, ...]:
    """The newest `MOST` finished answers of each device and model, oldest first. Raises ``sqlite3.Error``.

    An answer that another device had failed to give has no time to first token: the time lost there is in it. The
    time from token to token is that of the decode speed; where that is not known, the median of the gaps between
    pieces, each of which a server may have made of several tokens.
    """
    found: list[StoredAnswer] = []
    for dev, key in connection.execute("SELECT id, key FROM device ORDER BY id").fetchall():
        rows = connection.execute(
            """SELECT model,
                      iif(fallback_from IS NULL, ttft_us - coalesce(cold_start_us, 0) - coalesce(queue_us, 0), NULL),
                      coalesce(1e9 / nullif(tokens_per_ks, 0), itl_p50_us), cold_start_us, energy_per_token_uj
               FROM inference WHERE dev = ? AND finish IN ('stop', 'length')
               ORDER BY ts DESC, id DESC LIMIT ?""",
            (dev, _SEARCHED),
        ).fetchall()
        newest: dict[str, list[StoredAnswer]] = defaultdict(list)
        for model, *figures in rows:
            if len(newest[model]) < MOST:
                ttft, itl, cold_start, energy = (None if figure is None else figure / 1e6 for figure in figures)
                ttft = None if ttft is None else max(0.0, ttft)
                newest[model].append(StoredAnswer(key, model, ttft, itl, cold_start, energy))
        for answers in newest.values():
            found += reversed(answers)
    return tuple(found)
