"""Numbers read well and never lose their unit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.format import bytes_text, cut_percent, duration_text, energy_figures, reading_text, seconds_text
from hwdash.core.inference import Energy
from hwdash.core.metric import METRICS
from hwdash.core.reading import Absent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1023, "1.00 KiB"),
        (150754820096, "140 GiB"),
        (2**50, "1024 TiB"),
        (20 * 2**30, "20.0 GiB"),
    ],
)
def test_bytes(value: int, text: str) -> None:
    assert bytes_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00084, "840 µs"), (0.0421, "42.1 ms"), (0.9996, "1.00 s"), (1.239, "1.24 s"), (95, "95.0 s"), (300, "300 s")],
)
def test_seconds(value: float, text: str) -> None:
    assert seconds_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(38, "38 s"), (60, "1 min"), (125, "2 min 5 s"), (11520, "3 h 12 min"), (352800, "4 d 2 h"), (-1, "0 s")],
)
def test_durations(value: float, text: str) -> None:
    assert duration_text(value) == text


def test_absent_is_not_zero() -> None:
    assert reading_text("power_w", Absent.NOT_SUPPORTED) == "n/a"
    assert reading_text("power_w", None) == "n/a"
    assert reading_text("power_w", 0.0) == "0.0 W"


@pytest.mark.parametrize("metric", METRICS)
@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_of_every_metric_has_a_text(metric: str, value: float) -> None:
    assert reading_text(metric, value)


@pytest.mark.parametrize(
    ("energy", "words"),
    [
        (Energy(12.3, "device", 0.192, 0.37, 4.1), "12.3 J, 0.19 J/token (37% of the device's 33.2 J; 4.10 J idle)"),
        (Energy(12.3, "package", 0.0192, 1.0), "12.3 J, 19.2 mJ/token (package)"),
        (Energy(0.02, "device", None, 0.0001), "0.02 J (0.01% of the device's 200 J)"),
        (Energy(33.0, "device, shared"), "33.0 J (device, shared)"),
    ],
)
def test_the_energy_of_a_request(energy: Energy, words: str) -> None:
    assert energy_figures(energy) == words


@given(
    st.integers(1, 20_000).flatmap(lambda whole: st.tuples(st.integers(0, whole), st.just(whole))), st.integers(0, 2)
)
def test_per_cents_are_cut_as_whole_numbers_are(share: tuple[int, int], digits: int) -> None:
    part, whole = share
    assert cut_percent(part / whole, digits) == part * 100 * 10**digits // whole / 10**digits


def test_57_of_100_are_57_per_cent() -> None:
    assert (cut_percent(57 / 100, 2), cut_percent(0.99999, 2), cut_percent(0.9896, 1)) == (57.0, 99.99, 98.9)
