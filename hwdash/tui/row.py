"""The rows of the device table: every device with its place in the ranking, in the order that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from hwdash.core.format import duration_text
from hwdash.core.health import HealthState, SuspicionKind
from hwdash.core.ranking import RankedDevice
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.core.throttle import ThrottleActivity
from hwdash.tui.cycle import after


class SortOrder(StrEnum):
    """What the table is sorted by; the numbers fall, the rest rises."""

    RANK = "rank"
    NAME = "name"
    UTILISATION = "utilisation"
    TEMPERATURE = "temperature"
    MEMORY = "memory"

    @property
    def next(self) -> SortOrder:
        """The order that follows when the user asks for another."""
        return after(list(SortOrder), self)


@dataclass(frozen=True, slots=True)
class Row:
    """One device. ``rank`` counts from 1; None when the device is excluded or nothing was ranked. ``why`` explains it.

    ``ranked`` is all that the ranking says of it, None likewise.
    ``parent`` is the id of the device that it is a partition of, empty for a whole one; ``partitions`` are the ids of
    its own parts.
    """

    status: DeviceStatus
    rank: int | None = None
    score: float | None = None
    excluded: bool = False
    why: tuple[str, ...] = ()
    ranked: RankedDevice | None = None
    parent: str = ""
    partitions: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The device's stable key."""
        return self.status.device.key

    @property
    def memory_share(self) -> float | None:
        """Used memory over all memory, 0 to 1."""
        used, total = self.memory
        return used / total if used is not None and total else None

    @property
    def memory(self) -> tuple[float | None, float | None]:
        """Used and total bytes: of the metrics, else of the largest pool, else None."""
        used, total = self.status.number("memory_used_bytes"), self.status.number("memory_total_bytes")
        if total is None and (pool := max(self.status.pools, key=lambda pool: pool.total_bytes, default=None)):
            return float(pool.used_bytes), float(pool.total_bytes)
        return used, total


def rows_of(snapshot: Snapshot, order: SortOrder = SortOrder.RANK) -> tuple[Row, ...]:
    """All devices of *snapshot* in *order*; by rank, the excluded ones come last, best health first.

    Partitions stand below the device that they are parts of, which takes the place of the foremost of them all.
    """
    ranked: dict[str, Row] = {}
    by_id = {status.device.id: status for status in snapshot.devices}
    if snapshot.ranking is not None:
        for rank, item in enumerate(snapshot.ranking.ranked, start=1):
            if item.device in by_id:
                ranked[item.device] = Row(by_id[item.device], rank, item.score, False, item.why, item)
        for left_out in snapshot.ranking.excluded:
            if left_out.device in by_id:
                ranked[left_out.device] = Row(by_id[left_out.device], excluded=True, why=left_out.why)
    rows = [ranked.get(status.device.id) or Row(status) for status in snapshot.devices]
    rows = _sorted(rows, order)
    return tuple(rows) if all(status.device.parent is None for status in snapshot.devices) else _families(rows)


def _families(rows: Sequence[Row]) -> tuple[Row, ...]:
    """*rows* with partitions below their parents; one whose parent is not there stands for itself."""
    ids = {row.key: row.status.device.id for row in rows}
    families: dict[str, list[Row]] = {}
    for row in rows:
        parent = row.status.device.parent
        families.setdefault(parent if parent in ids and parent is not None else row.key, []).append(row)
    ordered: list[Row] = []
    for key, family in families.items():
        parts = [row for row in family if row.key != key]
        whole = [row for row in family if row.key == key]
        names = tuple(row.status.device.id for row in parts)
        ordered += [replace(row, partitions=names) for row in whole]
        ordered += [replace(row, parent=ids[key]) for row in parts]
    return tuple(ordered)


def _sorted(rows: Sequence[Row], order: SortOrder) -> list[Row]:
    def falling(value: float | None) -> tuple[bool, float]:
        return value is None, -(value or 0.0)

    match order:
        case SortOrder.RANK:
            return sorted(rows, key=lambda row: (row.rank is None, row.rank or 0))
        case SortOrder.NAME:
            return sorted(rows, key=lambda row: (row.status.device.name, row.status.device.id))
        case SortOrder.UTILISATION:
            return sorted(rows, key=lambda row: falling(row.status.number("utilization")))
        case SortOrder.TEMPERATURE:
            return sorted(rows, key=lambda row: falling(row.status.number("temperature_c")))
        case SortOrder.MEMORY:
            return sorted(rows, key=lambda row: falling(row.memory_share))


def active_throttle(status: DeviceStatus) -> tuple[ThrottleActivity, ...]:
    """The throttle reasons active now, the longest active first."""
    return tuple(sorted((item for item in status.throttle if item.active), key=lambda item: -(item.duty or 0.0)))


_SUSPICION_WORDS = {
    SuspicionKind.CLOCK: "clock",
    SuspicionKind.ANSWERS: "latency",
    SuspicionKind.MEMORY: "memory",
    SuspicionKind.PROBES: "probes",
}


def suspicion(status: DeviceStatus) -> str:
    """What a device that is called throttled without a flag is suspected by first, in a word; empty when unclear."""
    return next((_SUSPICION_WORDS[kind] for kind in status.health.suspicions), "")


def state_words(row: Row, *, short: bool = False) -> str:
    """The health of a device as a badge in words: ``ok``, ``warm 7 °C left``, ``THROTTLED power cap``, ``LOST``.

    With *short*, throttling is named by its class (``THROTTLED thermal``). What is only suspected has a question mark.
    """
    status = row.status
    match status.health.state:
        case HealthState.OK:
            return "asleep" if status.asleep else "ok, excluded" if row.excluded else "ok"
        case HealthState.WARM:
            margin = status.number("temperature_margin_c")
            if margin is None:
                return "warm"
            return f"warm {margin:.0f} °C left" if margin >= 0 else f"warm {-margin:.0f} °C over"
        case HealthState.THROTTLED if status.health.suspected:
            return f"THROTTLED? {'' if short else 'suspected '}{suspicion(status)}".rstrip()
        case HealthState.THROTTLED:
            active = active_throttle(status)
            if not active:
                return "THROTTLED"
            reason = active[0].reason
            words = str(reason.category) if short else reason.words.removesuffix(" (hardware)")
            return f"THROTTLED {words}" + (f" +{len(active) - 1}" if len(active) > 1 else "")
        case HealthState.STALE:
            return "stale" if status.age_s is None else f"stale {duration_text(status.age_s)}"
        case HealthState.LOST:
            return "LOST"
