from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

from hwdash.core.clock import ManualClock
from hwdash.core.config import StoreConfig
from hwdash.core.health import HealthState
from hwdash.core.inference import Conditions, FinishReason, Message, PromptRequest, Route, Timing, TokenCounts
from hwdash.core.reading import Absent, is_present
from hwdash.core.sample import Fault, FaultLevel
from hwdash.core.snapshot import LastRequest
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.store.column import COLUMNS, HEALTH_CODES, THROTTLE_BITS
from hwdash.store.stamp import from_ms, to_ms
from hwdash.store.store import Store
from tests.store.material import FAST, READINGS, START, at, change, gpu, record, rows, snapshot, status, until


async def opened(path: Path) -> Store:
    return await Store.open(path, StoreConfig(), ManualClock(START), pace=FAST)


async def test_a_sample_comes_back_with_its_reasons(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    store = await opened(path)
    throttle = (ThrottleActivity(ThrottleReason.POWER_CAP, active=True, duty=0.5),)
    readings = {**READINGS, "fan_rpm": math.nan}
    store.add_snapshot(snapshot(status(1.0, 0, readings, throttle, HealthState.THROTTLED), status(1.5, 1, {})))
    await store.close()

    names = ", ".join(column.name for column in COLUMNS)
    first, second = rows(path, f"SELECT {names} FROM sample ORDER BY ts")
    values = {c.metric: c.value(stored) for c, stored in zip(COLUMNS, first, strict=True) if stored is not None}
    assert values == {name: reading for name, reading in READINGS.items() if is_present(reading)}
    assert set(second) == {None}
    codes = rows(path, "SELECT ts, dev, throttle, throttle_permille, health, absent FROM sample ORDER BY ts")
    bit = THROTTLE_BITS[ThrottleReason.POWER_CAP]
    assert codes == [
        (to_ms(at(1.0)), 1, bit, 500, HEALTH_CODES[HealthState.THROTTLED], 1),
        (to_ms(at(1.5)), 2, None, None, HEALTH_CODES[HealthState.OK], None),
    ]
    reasons = rows(path, "SELECT reasons FROM sample JOIN absent_set ON absent_set.id = sample.absent")
    assert [json.loads(row[0]) for row in reasons] == [
        {
            "fan_ratio": Absent.NOT_SUPPORTED,
            "fan_rpm": Absent.BAD_VALUE,
            "memory_temperature_c": Absent.NO_PERMISSION,
        }
    ]
    assert rows(path, "SELECT id, key, name, kind, first_ts, last_ts FROM device WHERE id = 1") == [
        (1, gpu().key, gpu().name, "gpu", to_ms(at(1.0)), to_ms(at(1.0)))
    ]


async def test_only_new_samples_of_present_devices_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    store = await opened(path)
    for second in (1.0, 2.0, 2.0, 3.0):
        lost = status(second, 2, readings=dict.fromkeys(READINGS, Absent.DEVICE_LOST), state=HealthState.LOST)
        store.add_snapshot(snapshot(status(second), status(1.0, 1), lost, status(None, 3)))
    await store.close()
    assert rows(path, "SELECT dev, count(*) FROM sample GROUP BY dev") == [(1, 3), (2, 1)]


async def test_a_failed_device_that_is_still_read_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    store = await opened(path)
    failed = replace(status(1.0, state=HealthState.LOST), faults=(Fault("reset", "reset it", FaultLevel.FAILED),))
    gone = status(1.0, 1, dict.fromkeys(READINGS, Absent.DEVICE_LOST), state=HealthState.LOST)
    store.add_snapshot(snapshot(failed, gone))
    await store.close()
    assert rows(path, "SELECT key, power_mw FROM sample JOIN device ON device.id = dev") == [(gpu().key, 350_125)]


async def test_ids_and_absence_reasons_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    for second in (1.0, 2.0):
        store = await opened(path)
        store.add_snapshot(snapshot(status(second, 1), status(second, 0, {"power_w": Absent.TIMED_OUT})))
        await store.close()
    assert rows(path, "SELECT dev, count(*), count(DISTINCT absent) FROM sample GROUP BY dev") == [(1, 2, 1), (2, 2, 1)]
    assert rows(path, "SELECT count(*) FROM absent_set") == [(2,)]


async def test_a_clock_that_was_set_back_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    store = await opened(path)
    for second, power in ((1.0, 10.0), (2.0, 20.0), (1.0, 30.0), (1.5, 40.0)):
        store.add_snapshot(snapshot(status(second, 0, {"power_w": power})))
    await store.close()
    assert rows(path, "SELECT power_mw FROM sample ORDER BY ts") == [(30_000,), (40_000,), (20_000,)]


async def test_a_change_is_written_at_once(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    store = await Store.open(path, StoreConfig(), ManualClock(START))
    store.add_event(change(3.0, HealthState.THROTTLED, ["power cap: 1395 of 1980 MHz, 90 °C"]))
    await until(lambda: rows(path, "SELECT 1 FROM event"))
    columns = "ts, before, after, reasons, throttle"
    assert rows(path, f"SELECT {columns} FROM event") == [
        (to_ms(at(3.0)), "ok", "throttled", '["power cap: 1395 of 1980 MHz, 90 °C"]', '["power_cap"]')
    ]
    assert rows(path, "SELECT name FROM device") == [(gpu().key,)]
    store.add_snapshot(snapshot(status(4.0)))
    await store.close()
    assert rows(path, "SELECT id, name FROM device") == [(1, gpu().name)]


async def test_a_record_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    store = await opened(path)
    await store.add_record(record(1.0, uid="full"))
    names = (
        "uid, ts, model, dtype, origin, requested, fallback_from, finish, error, tokens_prompt, tokens_completion, "
        "queue_us, cold_start_us, ttft_us, itl_p50_us, itl_p99_us, total_us, tokens_per_ks, "
        "energy_mj, energy_per_token_uj, energy_scope, throttle, temperature_max_mc, clock_min_khz, "
        "energy_share_permille, energy_idle_mj"
    )
    mask = THROTTLE_BITS[ThrottleReason.POWER_CAP] | THROTTLE_BITS[ThrottleReason.PROCHOT]
    identity = ("full", to_ms(at(1.0)), "tiny", "bf16", "prompt", "auto", "fake:gpu-9", "stop", None, 31, 64)
    timing = (1000, None, 100_000, 10_100, 20_300, 750_000, 98_500)
    conditions = (12_300, 192_188, "device", mask, 54_000, 1_395_000, 370, 4100)
    assert rows(path, f"SELECT {names} FROM inference") == [(*identity, *timing, *conditions)]
    assert await store.last_requests() == {gpu().key: LastRequest("tiny", at(1.75), None, 98.5)}
    await store.close()


async def test_a_failed_record_keeps_what_is_unknown_unknown(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    store = await opened(path)
    bare = record(
        1.0,
        finish=FinishReason.ERROR,
        route=Route("gpu0"),
        tokens=TokenCounts(),
        timing=Timing(),
        energy=None,
        conditions=Conditions(),
        dtype=None,
        error="worker died",
        model="odd\ud800name",
    )
    await store.add_record(bare)
    await store.add_record(bare)
    assert rows(
        path, "SELECT model, error, tokens_prompt, ttft_us, total_us, energy_mj, clock_min_khz FROM inference"
    ) == [("odd?name", "worker died", None, None, None, None, None)]
    assert await store.last_requests() == {}
    assert store.problems == ()
    await store.close()


async def test_the_newest_answered_request_counts(tmp_path: Path) -> None:
    store = await opened(tmp_path / "h.db")
    for second, finish in ((1, FinishReason.STOP), (5, FinishReason.LENGTH), (7, FinishReason.ERROR), (8, "cancelled")):
        await store.add_record(record(second, finish=FinishReason(finish), model=f"model-{second}"))
    await store.add_record(record(2, index=1, timing=Timing()))
    found = await store.last_requests()
    assert {key: (last.model, last.finished_at) for key, last in found.items()} == {
        gpu(0).key: ("model-5", at(5.75)),
        gpu(1).key: ("tiny", at(2)),
    }
    await store.close()


async def test_no_text_of_a_prompt_reaches_the_disk(tmp_path: Path) -> None:
    """The types that reach the store have no place for it; the bytes of the files are looked through all the same."""
    request = PromptRequest((Message("user", "SECRET-QUESTION"),), "tiny", stop=("SECRET-STOP",))
    store = await opened(tmp_path / "h.db")
    await store.add_record(record(1.0, model=request.model, route=Route(request.device)))
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    await store.close()
    written += b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"tiny" in written
    assert b"SECRET" not in written
    held = {name for (name,) in rows(tmp_path / "h.db", "SELECT name FROM pragma_table_info('inference')")}
    assert not held & {"prompt", "text", "messages", "answer", "content", "why"}


def test_times_are_kept_to_the_millisecond() -> None:
    assert from_ms(to_ms(at(0.123))) == at(0.123)
