"""A process that is killed loses nothing that it acknowledged."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from hwdash.core.config import StoreConfig
from hwdash.store.store import Store
from tests.store.material import rows

WRITER = """
import asyncio, itertools, sys
from pathlib import Path
from hwdash.core.config import StoreConfig
from hwdash.store.store import Store
from tests.store.material import change, record, snapshot, status
from hwdash.core.health import HealthState

async def write(store, lane, run):
    for number in itertools.count():
        uid = f"{run}-{lane}-{number}"
        await store.add_record(record(number, uid=uid))
        sys.stdout.write(uid + "\\n")
        sys.stdout.flush()

async def main(path, run):
    store = await Store.open(Path(path), StoreConfig(retention_days=3650))
    async def tick():
        for number in itertools.count(1):
            store.add_snapshot(snapshot(*(status(number / 10, index) for index in range(8))))
            store.add_event(change(number, HealthState.WARM))
            await asyncio.sleep(0.002)
    await asyncio.gather(tick(), *(write(store, lane, run) for lane in range(3)))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("seed", range(4))
async def test_no_acknowledged_record_is_lost(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "h.db"
    chance = random.Random(seed)
    acknowledged: list[str] = []
    for run in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(run)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        acknowledged += [process.stdout.readline().strip() for _ in range(chance.randrange(1, 400))]
        process.kill()
        # What stood in the pipe was acknowledged as well; a last line cut in half was not.
        rest = process.stdout.read()
        process.stdout.close()
        process.wait()
        acknowledged += rest[: rest.rfind("\n") + 1].split()
    assert "" not in acknowledged
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    kept = {uid for (uid,) in rows(path, "SELECT uid FROM inference")}
    assert set(acknowledged) <= kept
    assert len(kept) <= len(acknowledged) + 2 * 3
    store = await Store.open(path, StoreConfig(retention_days=3650))
    assert store.problems == ()
    await store.close()
    assert rows(path, "SELECT count(*) FROM run WHERE end_ts IS NULL") == [(0,)]
