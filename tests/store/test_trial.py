"""Trials of precisions in the file: what comes back, and what takes the place of what."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

from hwdash.core.config import StoreConfig
from hwdash.core.trial import DeviceTrial, DtypeTrial
from hwdash.store.store import Store
from tests.store.material import FAST, at, gpu

FIRST = DeviceTrial(
    gpu(0).key,
    "580.1",
    "2.11.0+cu128",
    at(5),
    (DtypeTrial("fp32", 5e13, 4e12, 1e12), DtypeTrial("bf16", 1e12, 1e11, 5e10, emulated=True), DtypeTrial("fp8", problem="no")),
)  # fmt: skip


async def test_trials_come_back_as_they_were_after_a_start(tmp_path: Path) -> None:
    other = replace(FIRST, device_key=gpu(1).key, at=at(6), dtypes=())
    store = await Store.open(tmp_path / "h.db", StoreConfig(), pace=FAST)
    await store.add_trial(other)
    await store.add_trial(FIRST)
    await store.close()
    store = await Store.open(tmp_path / "h.db", StoreConfig(), pace=FAST)
    assert await store.trials() == (FIRST, other)
    await store.close()


async def test_a_second_trial_replaces_the_first_but_not_that_of_another_driver_or_torch(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "h.db", StoreConfig(), pace=FAST)
    again = replace(FIRST, at=at(9), dtypes=FIRST.dtypes[:1])
    driver, torch = replace(FIRST, at=at(7), driver="590"), replace(FIRST, at=at(8), torch="2.12")
    for trial in (FIRST, driver, torch, again):
        await store.add_trial(trial)
    assert await store.trials() == (driver, torch, again)
    await store.close()


async def test_a_trial_that_nobody_understands_is_left_out(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "h.db", StoreConfig(), pace=FAST)
    await store.add_trial(FIRST)
    await store.add_trial(replace(FIRST, driver="590", at=at(6)))
    await store.close()
    with sqlite3.connect(tmp_path / "h.db") as connection:
        connection.execute("UPDATE trial SET trial = '[{\"speed\": 1}]' WHERE driver = '590'")
    connection.close()
    store = await Store.open(tmp_path / "h.db", StoreConfig(), pace=FAST)
    assert await store.trials() == (FIRST,)
    await store.close()
