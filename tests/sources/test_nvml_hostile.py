"""Whatever an NVIDIA driver answers, a reading is a number or a reason."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from hwdash.core.metric import METRICS, Unit
from hwdash.core.reading import Absent
from tests.sources.nvml_rig import Rig
from tests.sources.nvml_stand_in import ULONGLONG, FakeCard

_NUMBERS = (
    "TemperatureV",
    "MarginTemperature",
    "CurrentClocksEventReasons",
    "SupportedClocksEventReasons",
    "FanSpeed_v2",
    "PowerUsage",
    "TotalEnergyConsumption",
    "EnforcedPowerLimit",
    "CurrPcieLinkGeneration",
    "CurrPcieLinkWidth",
    "MaxPcieLinkWidth",
    "NumGpuCores",
    "MemoryBusWidth",
)
_INTEGERS = st.sampled_from([0, 1, 100, 2**31, 2**32 - 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
_FIELDS = (
    st.tuples(st.just(0), st.floats()) | st.tuples(st.just(ULONGLONG), _INTEGERS) | st.tuples(st.just(77), _INTEGERS)
)


@settings(max_examples=60)
@given(
    st.fixed_dictionaries({f"nvmlDeviceGet{name}": _INTEGERS for name in _NUMBERS}),
    st.dictionaries(st.sampled_from(sorted(FakeCard().fields)), _FIELDS),
    _INTEGERS,
    st.tuples(_INTEGERS, _INTEGERS, _INTEGERS),
)
def test_any_answer_becomes_a_number_or_a_reason(
    numbers: dict[str, int], fields: dict[int, tuple[int, float]], utilization: int, memory: tuple[int, int, int]
) -> None:
    card = FakeCard(utilization=utilization, clocks={1: utilization, 2: utilization}, memory=memory, errors={})
    card.numbers |= numbers
    card.fields |= fields
    rig = Rig(card)
    for _ in range(2):
        sample = rig.read()
        for name, reading in sample.readings.items():
            assert name in METRICS
            if not isinstance(reading, Absent):
                assert math.isfinite(reading), name
                assert not METRICS[name].counter or reading >= 0.0, name
                # A fan may turn faster than its nominal speed.
                if METRICS[name].unit is Unit.RATIO and name != "fan_ratio":
                    assert 0.0 <= reading <= 1.0, name
        for pool in sample.pools:
            assert 0 <= pool.used_bytes <= pool.total_bytes >= pool.free_bytes > -1
        assert all(math.isfinite(seconds) and seconds >= 0.0 for seconds in sample.throttle_seconds.values())
        assert all(fault.words for fault in sample.faults)
