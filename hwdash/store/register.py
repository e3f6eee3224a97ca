"""The small numbers that stand in history for devices and for sets of absence reasons."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from hwdash.core.device import Device, DeviceKind
from hwdash.core.reading import Absent

Statement = tuple[str, list[tuple[object, ...]]]
"""A statement with the rows that it is run for."""

_DEVICE_SQL = """INSERT INTO device(id, key, name, kind, first_ts, last_ts) VALUES(?, ?, ?, ?, ?, ?)
    ON CONFLICT(id) DO UPDATE SET name=excluded.name, kind=excluded.kind"""
_ABSENT_SQL = "INSERT OR IGNORE INTO absent_set(id, reasons) VALUES(?, ?)"


class Register:
    """Gives out ids and remembers which of them the file does not hold yet.

    Ids given out stay valid when a transaction fails: what `statements` told is told again until `confirm`.
    """

    def __init__(self, devices: Iterable[tuple[int, str]], absent_sets: Iterable[tuple[int, str]]) -> None:
        self._devices = {key: number for number, key in devices}
        self._absent_sets: dict[tuple[tuple[str, str], ...], int] = {
            tuple(json.loads(reasons).items()): number for number, reasons in absent_sets
        }
        self._described: set[str] = set()
        self._new_devices: dict[int, tuple[object, ...]] = {}
        self._new_absent_sets: dict[int, tuple[object, ...]] = {}
        self.last_ts: dict[int, int] = {}

    def device(self, key: str, ts: int, device: Device | None = None) -> int:
        """The id of the device *key*, new at the time *ts* if need be; *device* tells its name and kind when known."""
        number = self._devices.get(key)
        if number is not None and (device is None or key in self._described):
            return number
        if number is None:
            number = self._devices[key] = max(self._devices.values(), default=0) + 1
        if device is not None:
            self._described.add(key)
        name, kind = (device.name, device.kind) if device is not None else (key, DeviceKind.OTHER)
        self._new_devices[number] = (number, key, name, kind.value, ts, ts)
        return number

    def absent_set(self, reasons: Mapping[str, Absent]) -> int | None:
        """The id of this set of reasons by metric; None when nothing is absent."""
        if not reasons:
            return None
        items = tuple(sorted((metric, reason.value) for metric, reason in reasons.items()))
        number = self._absent_sets.get(items)
        if number is None:
            number = self._absent_sets[items] = max(self._absent_sets.values(), default=0) + 1
            self._new_absent_sets[number] = (number, json.dumps(dict(items), separators=(",", ":")))
        return number

    def statements(self) -> list[Statement]:
        """What must be written before, or together with, rows that use the ids given out."""
        return [
            (_DEVICE_SQL, list(self._new_devices.values())),
            (_ABSENT_SQL, list(self._new_absent_sets.values())),
        ]

    def last_seen(self) -> Statement:
        """What notes for each device when its newest sample was taken."""
        return "UPDATE device SET last_ts=? WHERE id=?", [(ts, number) for number, ts in self.last_ts.items()]

    def confirm(self) -> None:
        """All of `statements` was committed."""
        self._new_devices.clear()
        self._new_absent_sets.clear()
