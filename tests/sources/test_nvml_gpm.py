"""GPM: shares and rates from the performance counters of an NVIDIA GPU."""

from __future__ import annotations

import math

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.reading import Absent
from tests.sources.nvml_rig import Rig
from tests.sources.nvml_stand_in import FakeCard

IDLE: dict[int, float | int] = {2: 0.5, 5: 0.0, 10: 3.25}
SHARES = ("sm_utilization", "tensor_utilization", "memory_bandwidth_utilization")


def test_shares_between_two_reads() -> None:
    rig = Rig(FakeCard(gpm={2: 50.0, 5: 12.5, 10: 100.4}))
    first = rig.read().readings
    assert [first[name] for name in SHARES] == [Absent.FIRST_SAMPLE] * 3
    readings = rig.read().readings
    assert [readings[name] for name in SHARES] == [0.5, 0.125, 1.0]


def test_one_sample_and_one_comparison_a_read() -> None:
    rig = Rig(FakeCard(gpm=IDLE))
    for _ in range(3):
        rig.read()
    rig.driver.calls.clear()
    rig.read()
    assert (rig.driver.calls["nvmlGpmSampleGet"], rig.driver.calls["nvmlGpmMetricsGet"]) == (1, 1)
    assert rig.driver.calls["nvmlGpmQueryDeviceSupport"] == rig.driver.calls["nvmlGpmSampleAlloc"] == 0


def test_samples_are_far_enough_apart() -> None:
    rig = Rig(FakeCard(gpm=IDLE))
    rig.read()
    rig.read()
    rig.driver.calls.clear()
    assert rig.read(after_s=0.05).readings["sm_utilization"] == 0.005
    assert rig.driver.calls["nvmlGpmSampleGet"] == 0
    rig.read(after_s=0.06)
    assert rig.driver.calls["nvmlGpmSampleGet"] == 1


def test_a_card_without_gpm_is_asked_once_and_has_no_such_metrics() -> None:
    rig = Rig()
    for _ in range(3):
        assert not set(SHARES) & set(rig.read().readings)
    assert rig.driver.calls["nvmlGpmQueryDeviceSupport"] == 1
    assert rig.driver.calls["nvmlGpmSampleAlloc"] == 0


def test_rates_only_where_no_counter_tells_them() -> None:
    values = IDLE | {20: 1.0, 21: 2.0, 60: 3.0, 61: 4.0}
    rig = Rig(FakeCard(gpm=values))
    rig.read()
    assert rig.read().readings["nvlink_tx_bytes_per_s"] == 0.0, "of the counter, which stands still"
    card = FakeCard(gpm=values)
    for id_ in (138, 139):
        del card.fields[id_]
    rig = Rig(card)
    rig.read()
    readings = rig.read().readings
    assert readings["pcie_tx_bytes_per_s"] == 2**20
    assert readings["pcie_rx_bytes_per_s"] == 2 * 2**20
    assert readings["nvlink_rx_bytes_per_s"] == 3 * 2**20
    assert readings["nvlink_tx_bytes_per_s"] == 4 * 2**20


def test_a_refused_permission_is_remembered() -> None:
    rig = Rig(FakeCard(gpm=IDLE, errors={"nvmlGpmSampleGet": pynvml.NVML_ERROR_NO_PERMISSION}))
    for _ in range(3):
        assert rig.read().readings["sm_utilization"] is Absent.NO_PERMISSION
    assert rig.driver.calls["nvmlGpmSampleGet"] == 1
    assert rig.driver.gpm_samples == 0


def test_a_metric_that_the_card_lacks_is_left_out_and_one_that_fails_is_absent() -> None:
    rig = Rig(FakeCard(gpm={2: pynvml.NVML_ERROR_UNKNOWN, 10: 5.0}))
    rig.read()
    for _ in range(2):
        readings = rig.read().readings
        assert readings["sm_utilization"] is Absent.ERROR
        assert readings["memory_bandwidth_utilization"] == 0.05
        assert "tensor_utilization" not in readings


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_UNINITIALIZED, 999])
@pytest.mark.parametrize("name", ["nvmlGpmQueryDeviceSupport", "nvmlGpmSampleGet"])
def test_gpm_never_fails_a_read_and_recovers(name: str, code: int) -> None:
    rig = Rig(FakeCard(gpm=IDLE))
    rig.card.errors[name] = code
    sample = rig.read()
    assert isinstance(sample.readings["sm_utilization"], Absent)
    assert sample.readings["temperature_c"] == 34.0
    del rig.card.errors[name]
    rig.read()
    assert rig.read().readings["sm_utilization"] == 0.005


def test_samples_are_given_back() -> None:
    rig = Rig(FakeCard(gpm=IDLE))
    rig.read()
    assert rig.driver.gpm_samples == 2
    rig.source.close()
    assert rig.driver.gpm_samples == 0


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES, pynvml.NVML_ERROR_UNINITIALIZED])
def test_without_room_for_both_samples_none_is_held_and_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    rig = Rig(FakeCard(gpm=IDLE))
    real = rig.driver.nvmlGpmSampleAlloc
    tries: list[int] = []

    def alloc() -> object:
        tries.append(1)
        if len(tries) == 2:
            raise pynvml.NVMLError(code)
        return real()

    monkeypatch.setattr(rig.driver, "nvmlGpmSampleAlloc", alloc)
    for _ in range(9):
        assert rig.read().readings["sm_utilization"] is Absent.ERROR
    assert rig.driver.gpm_samples == 0
    assert len(tries) == 2, "not at every read"
    rig.read(after_s=10.0)
    assert rig.read().readings["sm_utilization"] == 0.005


@given(st.floats())
def test_a_share_is_a_share_or_absent(value: float) -> None:
    rig = Rig(FakeCard(gpm={2: value}))
    rig.read()
    share = rig.read().readings["sm_utilization"]
    if isinstance(share, Absent):
        assert math.isnan(value) or not 0.0 <= value <= 101.0
    else:
        assert 0.0 <= share <= 1.0
