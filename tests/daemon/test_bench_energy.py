"""The energy of any stretch of time, from a counter that is read now and then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.sample import Sample
from hwdash.daemon.bench_energy import EnergyTrace


class Silent:
    """A monitor whose devices do not answer."""

    async def refresh(self, key: str, timeout_s: float = 0.1) -> Sample | None:
        return None


def trace(*readings: tuple[float, float]) -> EnergyTrace:
    made = EnergyTrace(Silent(), "gpu")
    for at_s, joules in readings:
        made.note(at_s, joules)
    return made


@given(
    st.lists(st.floats(0.01, 1.9), min_size=2, max_size=20),
    st.floats(1.0, 1000.0),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
)
def test_a_steady_power_is_found_in_every_stretch(gaps: list[float], watts: float, first: float, second: float) -> None:
    times = [10.0]
    for gap in gaps:
        times.append(times[-1] + gap)
    made = trace(*((at, 5.0 + watts * at) for at in times))
    length = times[-1] - times[0]
    from_s, to_s = sorted(times[0] + share * length for share in (first, second))
    joules = made.joules(from_s, to_s)
    if to_s - from_s > 1e-3:
        assert joules == pytest.approx(watts * (to_s - from_s), rel=1e-3)
    assert made.watts() == pytest.approx(watts)


def test_what_the_readings_do_not_cover_has_no_figure() -> None:
    made = trace((10, 0), (11, 100), (20, 1000))
    assert made.joules(10, 11) == 100
    assert made.joules(9.9, 11) is None
    assert made.joules(10, 20.1) is None
    assert made.joules(10, 15) is None  # nobody read the counter for seconds around 15
    assert made.joules(10.5, 10.5) is None
    assert trace((10, 0)).watts() is None
    assert trace((10, 7), (11, 7)).joules(10, 11) is None
    assert trace((10, 7), (11, 7)).watts() is None


def test_a_counter_that_fell_back_begins_anew() -> None:
    made = trace((10, 500), (11, 600), (12, 5), (13, 45))
    assert made.joules(10, 13) is None
    assert made.joules(12, 13) == 40
    assert made.watts() == 40


async def test_a_device_that_does_not_answer() -> None:
    made = EnergyTrace(Silent(), "gpu")
    assert not await made.read()
    assert made.joules(0, 1) is None
