"""The shipped fake keeps the promises of the seam."""

from __future__ import annotations

import threading

import pytest

from hwdash.sources.fake import FakeSource, fake_gpu, fake_readings
from hwdash.sources.source import DeviceLost, Source, SourceUnavailable


def test_it_is_a_source_and_says_what_it_is_told() -> None:
    gpu = fake_gpu(0, name="X")
    source: Source = FakeSource([gpu], {gpu.key: lambda count: fake_readings(power_w=float(count))})
    assert source.discover() == (gpu,)
    assert source.read(gpu.key).readings["power_w"] == 1.0
    sample = source.read(gpu.key)
    assert sample.readings["power_w"] == 2.0
    assert sample.pools[0].free_bytes == 120 * 2**30


def test_it_can_be_lost_and_unavailable() -> None:
    source = FakeSource([fake_gpu()])
    source.lost.add(fake_gpu().key)
    with pytest.raises(DeviceLost):
        source.read(fake_gpu().key)
    source.unavailable = "no driver"
    with pytest.raises(SourceUnavailable, match="no driver"):
        source.discover()
    source.close()
    assert source.closed


def test_it_hangs_until_it_is_released() -> None:
    source = FakeSource([fake_gpu()])
    source.hanging.add(fake_gpu().key)
    entered = threading.Event()
    done = threading.Event()

    def read() -> None:
        entered.set()
        source.read(fake_gpu().key)
        done.set()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert entered.wait(5)
    assert not done.wait(0.05)
    source.release()
    assert done.wait(5)
