"""PCIe and NVLink of an NVIDIA GPU, and what it says is wrong with it."""

from __future__ import annotations

import pynvml
import pytest

from hwdash.core.reading import Absent
from hwdash.core.sample import FaultLevel
from tests.sources.nvml_rig import Rig
from tests.sources.nvml_stand_in import UINT, ULONGLONG, FakeCard


def test_rates_from_the_byte_counters() -> None:
    rig = Rig()
    rig.read()
    rig.card.fields |= {138: (ULONGLONG, 1003), 139: (ULONGLONG, 2004)}
    readings = rig.read().readings
    assert (readings["nvlink_tx_bytes_per_s"], readings["nvlink_rx_bytes_per_s"]) == (3 * 1024.0, 4 * 1024.0)


def test_links_are_summed_up_by_the_driver() -> None:
    rig = Rig()
    rig.read()
    assert rig.driver.scopes[138] == rig.driver.scopes[139] == 2**32 - 1
    assert rig.driver.scopes[82] == 0


def test_newer_cards_count_nvlink_bytes_in_other_fields() -> None:
    card = FakeCard()
    del card.fields[138], card.fields[139]
    card.fields |= {202: (ULONGLONG, 100), 204: (ULONGLONG, 100)}
    rig = Rig(card)
    rig.read()
    card.fields |= {202: (ULONGLONG, 160), 204: (ULONGLONG, 170)}
    readings = rig.read().readings
    assert (readings["nvlink_tx_bytes_per_s"], readings["nvlink_rx_bytes_per_s"]) == (60.0, 70.0)


def test_counters_that_fail_at_first_are_looked_for_until_they_are_found() -> None:
    card = FakeCard(errors={138: 999, 139: 999}, gpm={2: 1.0, 5: 1.0, 10: 1.0, 20: 1.0, 21: 1.0})
    rig = Rig(card)
    rig.read()
    assert rig.read().readings["nvlink_tx_bytes_per_s"] is Absent.ERROR
    assert rig.read().readings["sm_utilization"] == 0.01, "the rest does not wait for them"
    card.errors = {}
    rig.read()
    card.fields |= {138: (ULONGLONG, 1003), 139: (ULONGLONG, 2004)}
    readings = rig.read().readings
    assert (readings["nvlink_tx_bytes_per_s"], readings["nvlink_rx_bytes_per_s"]) == (3 * 1024.0, 4 * 1024.0)
    assert not {202, 204} & set(rig.driver.asked_fields)


@pytest.mark.parametrize("after", [{138: 999, 139: 999}, {138: 3, 139: 3}])
def test_older_counters_that_fail_hide_no_newer_ones(after: dict[str | int, int]) -> None:
    card = FakeCard(errors={138: 999, 139: 999})
    card.fields |= {202: (ULONGLONG, 100), 204: (ULONGLONG, 100)}
    rig = Rig(card)
    rig.read()
    card.errors = after
    card.fields |= {202: (ULONGLONG, 160), 204: (ULONGLONG, 170)}
    readings = rig.read().readings
    assert (readings["nvlink_tx_bytes_per_s"], readings["nvlink_rx_bytes_per_s"]) == (60.0, 70.0)


def test_gpm_tells_what_no_counter_does_also_while_they_fail() -> None:
    card = FakeCard(errors={138: 999, 139: 999}, gpm={2: 1.0, 5: 1.0, 10: 1.0, 20: 1.0, 21: 1.0, 60: 1.0, 61: 1.0})
    rig = Rig(card)
    rig.read()
    assert rig.read().readings["nvlink_tx_bytes_per_s"] == 2.0**20
    card.errors = {138: 3, 139: 3}
    rig.read()
    assert rig.read().readings["nvlink_tx_bytes_per_s"] == 2.0**20
    assert not {138, 139} & set(rig.driver.asked_fields)


def test_a_card_without_nvlink_has_no_such_metrics() -> None:
    card = FakeCard()
    del card.fields[138], card.fields[139]
    rig = Rig(card)
    rig.read()
    assert not any(name.startswith("nvlink") for name in rig.read().readings)
    assert not {138, 139, 202, 204} & set(rig.driver.asked_fields)


def test_a_counter_that_fell_is_a_gap() -> None:
    rig = Rig()
    rig.read()
    rig.read()
    rig.card.fields[138] = (ULONGLONG, 5)
    assert rig.read().readings["nvlink_tx_bytes_per_s"] is Absent.FIRST_SAMPLE


def test_counters_of_pcie_that_wrap_many_times_a_second_are_not_asked_for() -> None:
    card = FakeCard()
    card.fields |= {197: (UINT, 5), 198: (UINT, 6)}
    rig = Rig(card)
    rig.read()
    assert not any(name.endswith("_bytes_per_s") and name.startswith("pcie") for name in rig.read().readings)
    assert not {197, 198} & set(rig.driver.asked_fields)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e300])
def test_absurd_counters_are_absent(value: float) -> None:
    card = FakeCard()
    card.fields |= dict.fromkeys((5, 6, 94, 138), (0, value))
    rig = Rig(card)
    rig.read()
    readings = rig.read().readings
    for name in ("ecc_corrected_total", "ecc_uncorrected_total", "pcie_replay_total", "nvlink_tx_bytes_per_s"):
        assert readings[name] is Absent.BAD_VALUE, name


@pytest.mark.parametrize("value", [0, 2**32 - 1])
def test_an_absurd_link_is_absent(value: int) -> None:
    card = FakeCard()
    card.numbers |= {"nvmlDeviceGetCurrPcieLinkWidth": value, "nvmlDeviceGetMaxPcieLinkWidth": value}
    rig = Rig(card)
    assert rig.read().readings["pcie_link_width"] is Absent.BAD_VALUE
    assert rig.devices[0].limits.pcie_link_width is None


def test_a_healthy_card_has_no_faults() -> None:
    assert Rig().read().faults == ()


@pytest.mark.parametrize(
    ("field", "value", "code", "words", "level"),
    [
        (144, 1, "row_remap_pending", "reset the GPU", FaultLevel.WARNING),
        (145, 1, "row_remap_failure", "RMA", FaultLevel.WARNING),
        (230, 1, "recovery_action", "reset of the GPU", FaultLevel.FAILED),
        (230, 2, "recovery_action", "reboot", FaultLevel.FAILED),
        (230, 4, "recovery_action", "no new work", FaultLevel.WARNING),
        (230, 99, "recovery_action", "recovery action 99", FaultLevel.WARNING),
    ],
)
def test_faults_say_what_to_do(field: int, value: int, code: str, words: str, level: FaultLevel) -> None:
    card = FakeCard()
    card.fields[field] = (UINT, value)
    (fault,) = Rig(card).read().faults
    assert (fault.code, fault.level) == (code, level)
    assert words in fault.words


def test_a_fault_that_cannot_be_read_is_none() -> None:
    card = FakeCard()
    card.errors |= {144: pynvml.NVML_ERROR_UNKNOWN, 145: pynvml.NVML_ERROR_NOT_SUPPORTED}
    card.fields[230] = (0, float("nan"))
    assert Rig(card).read().faults == ()
