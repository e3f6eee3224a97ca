"""Trials of precisions as rows: one of each device, driver and torch, the newest."""

from __future__ import annotations

import logging
import sqlite3

from hwdash.core.trial import DeviceTrial, DtypeTrial
from hwdash.core.wire import dumps, from_wire, loads, to_wire
from hwdash.store.register import Register
from hwdash.store.stamp import from_ms, to_ms
from hwdash.store.text import encodable

_log = logging.getLogger(__name__)

TRIAL_SQL = "INSERT OR REPLACE INTO trial(dev, driver, torch, ts, trial) VALUES(?, ?, ?, ?, ?)"

_READ_SQL = """SELECT key, trial.driver, torch, ts, trial FROM trial JOIN device ON device.id = dev
    ORDER BY ts, key, trial.driver, torch"""


def trial_row(register: Register, trial: DeviceTrial) -> tuple[object, ...]:
    """The values of `TRIAL_SQL`."""
    ts = to_ms(trial.at)
    told = dumps([to_wire(dtype) for dtype in trial.dtypes]).decode()
    return register.device(trial.device_key, ts), encodable(trial.driver), encodable(trial.torch), ts, told


def read_trials(connection: sqlite3.Connection) -> tuple[DeviceTrial, ...]:
    """All trials, oldest first; one that this version does not understand is left out. Raises ``sqlite3.Error``."""
    found = []
    for key, driver, torch, ts, text in connection.execute(_READ_SQL):
        try:
            dtypes = from_wire(loads(text.encode()), tuple[DtypeTrial, ...])
        except ValueError as error:
            _log.warning("the trial of %s with driver %s cannot be read: %s", key, driver, error)
            continue
        found.append(DeviceTrial(key, driver, torch, from_ms(ts), dtypes))
    return tuple(found)
