"""What raises on the loop, because of one device, stays with that device."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from hwdash.core.device import DeviceKind
from hwdash.core.health import HealthState
from hwdash.core.reading import Absent, Reading
from hwdash.core.snapshot import Snapshot
from hwdash.core.throttle import ThrottleReason
from hwdash.monitor.mailbox import Mailbox
from hwdash.sources.fake import FakeSource, fake_gpu, fake_readings
from tests.monitor.watching import SHORT_S, gpus, has_state, row, until, watching

KEY = "fake:gpu-0"


def plain(_: int) -> Mapping[str, Reading]:
    return fake_readings()


def bad(_: int) -> Mapping[str, Reading]:
    words: Any = "hot"
    return fake_readings(temperature_c=words, temperature_margin_c=Absent.NOT_SUPPORTED)


@pytest.mark.parametrize("per_device", [True, False])
@pytest.mark.parametrize(
    ("where", "said"), [("readings", "reading fake:gpu-0 failed"), ("counters", "fake:gpu-0 could not be taken in")]
)
async def test_a_sample_that_cannot_be_taken_in_silences_nobody_else_and_itself_only_for_so_long(
    per_device: bool, where: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    script: dict[str, Callable[[int], Mapping[str, Reading]]] = {KEY: plain}
    source = FakeSource(gpus(3), script, per_device=per_device)
    async with watching(source, deadline_s=SHORT_S) as monitor:
        if where == "readings":
            source.readings[KEY] = bad
        else:
            source.changes[KEY] = {"throttle_seconds": {ThrottleReason.POWER_CAP: "long"}}
        stale = await until(monitor, has_state("gpu0", "stale"))
        assert "reading fails: TypeError: " in row(stale, "gpu0").health.reasons[0]
        assert row(stale, "gpu0").readings["utilization"] is Absent.ERROR

        def others_go_on(found: Snapshot) -> bool:
            rows = [row(found, name) for name in ("gpu1", "gpu2")]
            return found.sequence > stale.sequence + 3 and all(item.health.state == "ok" for item in rows)

        await until(monitor, others_go_on)
        assert await monitor.refresh("fake:gpu-1", 5.0) is not None
        source.readings[KEY] = plain
        source.changes.clear()
        await until(monitor, has_state("gpu0", "ok"))
    assert said in caplog.text


async def test_each_letter_is_opened_whatever_another_one_does(caplog: pytest.LogCaptureFixture) -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    opened: list[int] = []

    def torn() -> None:
        raise ValueError("torn")

    mailbox.begin()
    for letter in (lambda: opened.append(1), torn, lambda: opened.append(2)):
        mailbox.post(letter, mailbox.expect())
    mailbox.deliver()
    assert opened == [1, 2]
    assert "ValueError: torn" in caplog.text


async def test_a_driver_that_says_time_out_timed_out() -> None:
    source = FakeSource(gpus(1))

    def late(_: int) -> Mapping[str, Reading]:
        raise TimeoutError("no answer from the firmware")

    async with watching(source, deadline_s=SHORT_S) as monitor:
        source.readings[KEY] = late
        stale = await until(monitor, has_state("gpu0", "stale"))
        assert row(stale, "gpu0").readings["utilization"] is Absent.TIMED_OUT
        assert row(stale, "gpu0").health.reasons[0].endswith(": no answer from the firmware")


@pytest.mark.parametrize("value", [1e308, float("nan"), float("-inf")])
async def test_a_number_that_cannot_be_is_absent_and_harms_nobody(value: float) -> None:
    cpu = fake_gpu(key="fake:cpu", kind=DeviceKind.CPU, pci=None)
    source = FakeSource([*gpus(1), cpu], {"fake:cpu": fake_readings(utilization=value)}, per_device=False)
    async with watching(source) as monitor:
        found = await until(monitor, lambda found: found.sequence >= 3)
        assert row(found, "cpu0").readings["utilization"] is Absent.BAD_VALUE
        assert row(found, "cpu0").number("power_w") == 350.0
        assert {status.health.state for status in found.devices} == {HealthState.OK}


async def test_a_row_that_cannot_be_made_is_left_out_alone(caplog: pytest.LogCaptureFixture) -> None:
    source = FakeSource(gpus(2))
    async with watching(source) as monitor:
        words: Any = (object(),)
        source.changes[KEY] = {"faults": words}
        found = await until(monitor, lambda found: len(found.devices) == 1)
        assert row(found, "gpu1").health.state is HealthState.OK
        source.changes.clear()
        await until(monitor, lambda found: len(found.devices) == 2)
    assert KEY in caplog.text
