"""What a device is expected to do: measured where it was, else from its bandwidth and the model's bytes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given

from hwdash.core.health import Health, HealthState
from hwdash.core.ranking import Expectation
from hwdash.core.requirement import NO_REQUIREMENTS, Requirements
from hwdash.core.snapshot import DeviceStatus, LastRequest
from hwdash.routing.estimate import expect
from hwdash.routing.knowledge import NOTHING_KNOWN, Circumstance, Knowledge
from hwdash.routing.pace import Average, Pace
from tests.routing.build import (
    CAPPED,
    GIB,
    LARGE,
    NOW,
    SMALL,
    device_status,
    knowing,
    knowledges,
    pace_of,
    requirements,
    statuses,
)


def expected(status: DeviceStatus, known: Knowledge = NOTHING_KNOWN) -> Expectation:
    return expect(status, known, NO_REQUIREMENTS)


@given(statuses, knowledges, requirements)
def test_every_figure_is_positive_or_unknown(status: DeviceStatus, known: Knowledge, asked: Requirements) -> None:
    found = expect(status, known, asked)
    figures = (found.ttft_s, found.tokens_per_s, found.answer_s, found.joules_per_token, found.spread)
    assert all(figure is None or figure >= 0 for figure in figures)
    assert found.wait_s >= 0
    assert found.cold_start_s >= 0
    if found.answer_s is not None and found.ttft_s is not None:
        assert found.answer_s >= found.ttft_s + found.wait_s + found.cold_start_s - 1e-9


def test_estimates_are_near_what_was_measured() -> None:
    h200 = device_status("gpu0", bandwidth=4.8e12)
    small = expected(h200, knowing())
    assert small.ttft_s == pytest.approx(0.0245, rel=0.15)
    assert small.tokens_per_s == pytest.approx(49, rel=0.15)
    assert not small.measured
    assert expected(h200, knowing(shape=LARGE)).tokens_per_s == pytest.approx(31.5, rel=0.25)
    cores = expected(device_status("cpu0", dtypes=("fp32",)), knowing())
    assert cores.tokens_per_s is not None
    assert 10 <= cores.tokens_per_s <= 25


def test_a_long_prompt_takes_longer_to_read_but_not_longer_to_answer() -> None:
    gpu = device_status("gpu0", bandwidth=4.8e12)
    short = expected(gpu, replace(knowing(shape=LARGE), prompt_tokens=64))
    long = expected(gpu, replace(knowing(shape=LARGE), prompt_tokens=2000))
    assert short.ttft_s is not None
    assert long.ttft_s is not None
    assert long.ttft_s == pytest.approx(0.064, rel=0.1)
    assert long.ttft_s > 2 * short.ttft_s
    assert long.tokens_per_s == short.tokens_per_s


def test_measured_beats_estimated() -> None:
    found = expected(device_status("gpu0"), knowing({"gpu0": Circumstance(pace_of(0.024, 0.02), loaded=True)}))
    assert found.spread == pytest.approx(0.08)
    assert replace(found, spread=None) == Expectation(0.024, 50.0, 0.024 + 64 * 0.02, 0.0, 0.0, 3.0, True, 7)


def test_one_measured_answer_has_no_spread_yet() -> None:
    found = expected(device_status("gpu0"), knowing({"gpu0": Circumstance(pace_of(samples=1), loaded=True)}))
    assert found.measured
    assert found.spread is None


def test_what_a_pace_lacks_is_estimated_and_then_all_is() -> None:
    pace = Pace(3, Average(0.5), None)
    found = expected(device_status("gpu0"), knowing({"gpu0": Circumstance(pace, loaded=True)}))
    assert found.ttft_s == 0.5
    assert found.tokens_per_s is not None
    assert not found.measured
    assert found.samples == 0


def test_without_a_model_the_last_request_counts_and_with_one_only_its_own() -> None:
    gpu = device_status("gpu0", last=LastRequest("other", NOW, 0.1, 20.0))
    assert expected(gpu).measured
    assert expected(gpu).answer_s == pytest.approx(0.1 + 64 / 20)
    assert not expected(gpu, knowing()).measured
    assert expected(gpu, replace(knowing(), model="other")).measured
    assert expected(device_status("gpu0")) == Expectation()


def test_who_comes_must_wait_for_a_place() -> None:
    def wait(running: int, waiting: int, limit: int) -> float:
        item = Circumstance(pace_of(0.0, 1.0), loaded=True, running=running, waiting=waiting, limit=limit)
        return expected(device_status("gpu0"), knowing({"gpu0": item})).wait_s

    assert wait(0, 0, 1) == 0
    assert wait(1, 0, 1) == 64
    assert wait(1, 2, 1) == 3 * 64
    assert wait(3, 0, 4) == 0
    assert wait(4, 0, 4) == 16


def test_a_cold_start_is_measured_or_from_the_bytes_to_load() -> None:
    gpu, cpu = device_status("gpu0"), device_status("cpu0", dtypes=("fp32",))
    assert expected(gpu, knowing(shape=LARGE)).cold_start_s == pytest.approx(10 + 8.03, rel=0.01)
    assert expected(cpu, knowing()).cold_start_s == pytest.approx(3 + 0.27, rel=0.01)
    measured = replace(pace_of(), cold_start_s=Average(6.5))
    assert expected(gpu, knowing({"gpu0": Circumstance(measured)})).cold_start_s == 6.5
    for warm in (Circumstance(loaded=True), Circumstance(server="vllm")):
        assert expected(gpu, knowing({"gpu0": warm})).cold_start_s == 0


def test_a_server_is_not_estimated_for_its_precision_is_its_own() -> None:
    found = expected(device_status("gpu0"), knowing({"gpu0": Circumstance(server="vllm")}))
    assert found.ttft_s is None
    assert found.answer_s is None


def test_a_device_that_is_held_back_is_reckoned_slower_by_its_clock() -> None:
    known = knowing({"gpu0": Circumstance(pace_of(), loaded=True)})
    capped = device_status("gpu0", throttle=CAPPED, clock_hz=0.99e9)
    assert expected(capped, known).tokens_per_s == pytest.approx(25)
    idle = device_status("gpu0", clock_hz=0.345e9)
    assert expected(idle, known).tokens_per_s == pytest.approx(50)


def test_a_measurement_from_under_the_throttling_is_not_stretched_again() -> None:
    since = Health(HealthState.THROTTLED, ("power cap",), NOW)
    capped = replace(device_status("gpu0", throttle=CAPPED, clock_hz=0.99e9), health=since)
    known = knowing({"gpu0": Circumstance(pace_of(), loaded=True)})
    after = replace(capped, last_request=LastRequest("m", NOW + timedelta(seconds=5), 0.05, 25.0))
    before = replace(capped, last_request=LastRequest("m", NOW - timedelta(seconds=5), 0.05, 25.0))
    assert expected(after, known).tokens_per_s == pytest.approx(50)
    assert expected(before, known).tokens_per_s == pytest.approx(25)


def test_energy_is_measured_or_a_share_of_the_power_limit() -> None:
    gpu = device_status("gpu0", limit_w=700.0, bandwidth=4.8e12)
    guess = expected(gpu, knowing()).joules_per_token
    assert guess == pytest.approx(700 * 0.4 * 0.021, rel=0.05)
    assert expected(device_status("gpu0", limit_w=None, watts=None), knowing()).joules_per_token is None


def test_less_memory_than_the_usual_precision_needs_means_a_smaller_one() -> None:
    roomy = device_status("cpu0", dtypes=("fp32",), free=64 * GIB)
    tight = device_status("cpu0", dtypes=("fp32",), free=20 * GIB)
    known = knowing(shape=LARGE)
    assert (expected(tight, known).tokens_per_s or 0) > 1.5 * (expected(roomy, known).tokens_per_s or 0)
    assert SMALL.weight_bytes("fp32") == 2 * SMALL.weight_bytes("bf16")
