"""Reports of benches and soaks in the file: what comes back, and how many of them stay."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hwdash.core.bench import BenchComparison, BenchReport, DecodeFigure, DtypeFigures, PrefillFigure
from hwdash.core.config import StoreConfig
from hwdash.core.inference import Conditions
from hwdash.core.measurement import LoadedModel
from hwdash.store.bench import BENCH, MOST_KEPT, REPORT_SQL, SOAK, StoredReport, report_row
from hwdash.store.database import prepare
from hwdash.store.register import Register
from hwdash.store.store import Store
from tests.store.material import FAST, START, at, gpu, rows, until

FULL = BenchReport(
    "b1", at(5), 12.5, "gpu0", gpu(0).key, "Fake GPU 0", "tiny", "device", 4.27e12,
    (("driver", "580.1"), ("torch", "2.11.0")),
    (
        DtypeFigures(
            "bf16",
            LoadedModel("bf16", 1000, 4000, 2048, "graph", ("captured",), 4000, 0.1, 0.2, 0.3, 0.4, 0.5),
            (PrefillFigure(32, 0.02, 1600.0),),
            (DecodeFigure(1, 0.005, 0.006, 200.0, 0.7, 0.21, 0.05), DecodeFigure(4, 0.006, 0.007, 660.0)),
            Conditions(("power_cap",), 61.0, 1.2e9),
        ),
        DtypeFigures("fp8", problem="no kernels"),
    ),
    (BenchComparison("bf16", "itl_p50_s, batch 1", 0.005, 0.004, 1.25, 5, at(0), "25% slower"),),
)  # fmt: skip


def stored(seconds: float, uid: str, kind: str = BENCH, index: int = 0, model: str = "tiny") -> StoredReport:
    return StoredReport(uid, at(seconds), gpu(index).key, kind, model, b'{"a":1}')


async def test_a_report_comes_back_as_it_was(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "h.db", StoreConfig(), pace=FAST)
    await store.add_report(StoredReport.of(BENCH, FULL.id, FULL.started_at, FULL.device_key, FULL.model, FULL))
    (found,) = await store.reports(BENCH)
    assert found.decoded(BenchReport) == FULL
    assert (found.at, found.device_key, found.model) == (FULL.started_at, FULL.device_key, FULL.model)
    await store.close()


async def test_the_newest_of_what_is_asked_for_oldest_first(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "h.db", StoreConfig(), pace=FAST)
    for number in range(4):
        await store.add_report(stored(number, f"b{number}"))
    await store.add_report(stored(9, "other", model="large"))
    await store.add_report(stored(10, "soak", SOAK))
    await store.add_report(stored(11, "second", index=1))
    await store.add_report(stored(0, "b0"))  # its first commit was not seen to succeed

    async def uids(*asked: object) -> list[str]:
        return [report.uid for report in await store.reports(*asked)]  # type: ignore[arg-type]

    assert await uids(BENCH, gpu(0).key, "tiny", 2) == ["b2", "b3"]
    assert await uids(BENCH, gpu(0).key) == ["b0", "b1", "b2", "b3", "other"]
    assert await uids(BENCH, None, "tiny") == ["b0", "b1", "b2", "b3", "second"]
    assert await uids(SOAK) == ["soak"]
    assert await uids(BENCH, "no such device") == []
    await store.close()


def test_a_report_of_another_version_is_passed_over() -> None:
    assert stored(0, "b1").decoded(BenchReport) is None


async def test_the_newest_of_each_device_and_kind_stay(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    prepare(path, START, broken=False)
    register = Register((), ())
    many = [stored(number, f"b{number}") for number in range(MOST_KEPT + 7)]
    few = [stored(number, f"s{number}", SOAK) for number in range(3)]
    other = [stored(number, f"o{number}", index=1) for number in range(3)]
    values = [report_row(register, report) for report in (*many, *few, *other)]
    with sqlite3.connect(path) as connection:
        for sql, params in register.statements():
            connection.executemany(sql, params)
        connection.executemany(REPORT_SQL, values)
    connection.close()
    store = await Store.open(path, StoreConfig(), pace=FAST)
    await until(lambda: rows(path, "SELECT count(*) FROM bench") == [(MOST_KEPT + 6,)])
    assert rows(path, "SELECT uid FROM bench WHERE kind = 'bench' AND dev = 1 ORDER BY id LIMIT 1") == [("b7",)]
    assert len(await store.reports(BENCH, gpu(1).key)) == len(await store.reports(SOAK)) == 3
    await store.close()
