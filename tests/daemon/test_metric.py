"""The page of metrics: read by promtool and by strict parsers, whatever a driver says, and true to the snapshot."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.device import Device, DeviceKind, Limits, MemoryPool
from hwdash.core.health import Health, HealthState
from hwdash.core.inference import Energy, FinishReason, Route, Timing, TokenCounts, TokenEvent
from hwdash.core.metric import METRICS
from hwdash.core.ranking import RankedDevice, Ranking
from hwdash.core.reading import Absent
from hwdash.core.snapshot import DeviceStatus, Snapshot, SourceStatus
from hwdash.core.status import AdmissionStatus, BreakerState
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.daemon.metric_device import fill_devices, fill_queues, fill_scores
from hwdash.daemon.metric_family import FAMILIES, READINGS, FamilyKind
from hwdash.daemon.metric_page import Page
from hwdash.daemon.metric_tally import BOUNDS, MOST_MODELS, Tally
from hwdash.sources.fake import fake_gpu
from tests.daemon.metric_page import (
    NOW,
    Series,
    full_page,
    full_snapshot,
    full_status,
    openmetrics,
    plain,
    read_openmetrics,
    read_plain,
    record,
    series,
    tokens,
)

GPU0, GPU1 = fake_gpu(0).key, fake_gpu(1).key


def read(page: Page) -> Series:
    """What *page* says, which is the same in both formats."""
    found = series(read_openmetrics(openmetrics(page)))
    assert series(read_plain(plain(page))) == found
    return found


def page_of(*devices: DeviceStatus) -> Series:
    page = Page()
    fill_devices(page, Snapshot(1, NOW, 1.0, devices))
    return read(page)


def of(found: Series, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(sorted(labels.items()))))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_no_complaint() -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], check=False, input=plain(full_page()), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_family_has_its_type_unit_and_labels_in_the_text() -> None:
    text = openmetrics(full_page())
    metrics = {metric.name: metric for metric in read_openmetrics(text)}
    assert text.endswith("\n# EOF\n")
    for family in FAMILIES.values():
        metric = metrics.pop(family.name.removesuffix("_total").removesuffix("_info"))
        assert (metric.type, metric.unit, metric.documentation) == (family.kind, family.unit, family.words)
        for sample in metric.samples:
            assert set(sample.labels) - {"le"} <= set(family.labels)
        if family.kind is not FamilyKind.HISTOGRAM:
            assert {sample.name for sample in metric.samples} == {family.name}
    assert not metrics


def test_names_say_their_unit_and_nothing_of_where_they_come_from() -> None:
    for family in FAMILIES.values():
        assert family.name.startswith("hwdash_")
        assert family.name.removesuffix("_total").endswith(family.unit)
        assert not set(family.labels) & {"instance", "job", "hostname", "host", "le"}
        assert "vendor" not in family.labels or family.name == "hwdash_device_info"


def test_every_metric_has_one_home_and_every_counter_is_one() -> None:
    assert set(READINGS) == set(METRICS)
    homes = [(home.family.name, home.labels) for home in READINGS.values()]
    assert len(set(homes)) == len(homes)
    for name, home in READINGS.items():
        assert len(home.labels) == len(home.family.labels) - 1
        assert (home.family.kind is FamilyKind.COUNTER) == METRICS[name].counter


def test_readings_and_limits_stand_under_their_names() -> None:
    found = page_of(full_status(0), full_status(1, pools=False))
    assert of(found, "hwdash_device_memory_used_bytes", device=GPU0, pool="hbm") == 20 * 2**30
    assert of(found, "hwdash_device_memory_used_bytes", device=GPU1, pool="memory") == 2.0**59
    assert of(found, "hwdash_device_power_limit_watts", device=GPU0) == 700
    assert of(found, "hwdash_device_temperature_limit_celsius", device=GPU0, limit="slowdown") == 89
    assert of(found, "hwdash_device_up", device=GPU0) == 1
    assert of(found, "hwdash_device_health", device=GPU0, state="ok") == 1
    assert of(found, "hwdash_device_health", device=GPU0, state="lost") == 0
    labels = {"device": GPU0, "reason": "power_cap", "class": "power"}
    assert of(found, "hwdash_device_throttle_active", **labels) == 0
    assert of(found, "hwdash_device_throttle_duty_ratio", **labels) == 0.25
    assert of(found, "hwdash_device_throttle_seconds_total", **labels) == 12.5


@pytest.mark.parametrize("state", [HealthState.STALE, HealthState.LOST])
def test_a_device_that_is_gone_has_no_numbers(state: HealthState) -> None:
    found = page_of(full_status(0, state))
    assert {name for name, _ in found} == {"hwdash_device_info", "hwdash_device_up", "hwdash_device_health"}
    assert of(found, "hwdash_device_up", device=GPU0) == 0


def test_two_unnamed_bits_are_one_reason() -> None:
    throttle = (
        ThrottleActivity(ThrottleReason.UNKNOWN, False, None, "0x4000", 3.0),
        ThrottleActivity(ThrottleReason.UNKNOWN, True, None, "0x8000"),
    )
    found = page_of(replace(full_status(), throttle=throttle))
    labels = {"device": GPU0, "reason": "unknown", "class": "other"}
    assert of(found, "hwdash_device_throttle_active", **labels) == 1
    assert of(found, "hwdash_device_throttle_seconds_total", **labels) == 3
    assert of(found, "hwdash_device_throttle_duty_ratio", **labels) is None


def test_scores_and_queues_go_by_the_key() -> None:
    page, snapshot = Page(), full_snapshot(2)
    fill_scores(page, snapshot, [Ranking("latency", {}, (RankedDevice("gpu1", 0.7, {}, ()),), ())])
    fill_queues(page, snapshot, [AdmissionStatus("gpu1", 2, 5, 4, breaker=BreakerState.OPEN)])
    found = read(page)
    assert of(found, "hwdash_device_score", device=GPU1, policy="latency") == 0.7
    assert of(found, "hwdash_device_score", device=GPU0, policy="latency") is None
    assert of(found, "hwdash_engine_queue_depth", device=GPU1) == 5
    assert of(found, "hwdash_engine_queue_depth", device=GPU0) == 0
    assert of(found, "hwdash_engine_running_requests", device=GPU1) == 2
    assert of(found, "hwdash_engine_slots", device=GPU1) == 4
    assert of(found, "hwdash_engine_breaker", device=GPU1, state="open") == 1
    assert of(found, "hwdash_engine_breaker", device=GPU1, state="closed") == 0


# What a driver may say: no reading at all, any number, any name.
names = st.text(max_size=30) | st.sampled_from(
    ['a"b', "line\nbreak", "back\\slash", "\x1b[31mred", "\ud800", "{x=1}", ""]
)
numbers = st.floats() | st.integers(-(2**70), 2**70).map(float)
devices = st.builds(
    Device,
    names,
    st.sampled_from(DeviceKind),
    names,
    names,
    names,
    id=names,
    driver=st.none() | names,
    firmware=st.none() | names,
    parent=st.none() | names,
    limits=st.builds(Limits, st.none() | numbers, st.none() | numbers),
)
statuses = st.builds(
    DeviceStatus,
    devices,
    st.dictionaries(st.sampled_from(sorted(METRICS)) | names, numbers | st.sampled_from(Absent), max_size=10),
    st.lists(st.builds(MemoryPool, names, *[st.integers(0, 2**60)] * 3), max_size=3).map(tuple),
    st.lists(
        st.builds(
            ThrottleActivity,
            st.sampled_from(ThrottleReason),
            st.booleans(),
            st.none() | numbers,
            st.none() | names,
            st.none() | numbers,
        ),
        max_size=4,
    ).map(tuple),
    st.builds(Health, st.sampled_from(HealthState), st.just(()), st.just(NOW)),
    st.none(),
    st.none(),
)


@given(st.lists(statuses, max_size=4), names, st.none() | numbers)
def test_whatever_a_driver_says_the_page_can_be_read(found: list[DeviceStatus], name: str, took: float | None) -> None:
    page = Page()
    sources = (SourceStatus(name, 1, took), SourceStatus(name, 1, None, name))
    fill_devices(page, Snapshot(1, NOW, 1.0, tuple(found), sources))
    for value in read(page).values():
        assert value - value == 0


@given(st.dictionaries(st.sampled_from(sorted(METRICS)), st.sampled_from(Absent)))
def test_what_is_absent_has_no_series(readings: dict[str, Absent]) -> None:
    everything = page_of(replace(full_status(), readings=dict.fromkeys(METRICS, 0.0), pools=()))
    found = page_of(replace(full_status(), readings={name: readings.get(name, 0.0) for name in METRICS}, pools=()))
    missing = {(home.family.name, home.labels) for name, home in READINGS.items() if name in readings}
    gone = {
        (name, tuple(value for label, value in labels if label != "device"))
        for name, labels in everything.keys() - found.keys()
    }
    assert gone == missing


def test_gaps_between_tokens_are_counted_one_by_one() -> None:
    tally, page = Tally(str), Page()
    follow = tally.follow(GPU0, "m")
    for token in [*tokens(1.0, 1.004), TokenEvent("", 2, 1.0045), TokenEvent("two at once", 4, 1.022)]:
        follow(token)
    tally.fill(page)
    found = read(page)
    assert of(found, "hwdash_inference_itl_seconds_count", device=GPU0, model="m") == 3
    assert of(found, "hwdash_inference_itl_seconds_sum", device=GPU0, model="m") == pytest.approx(0.022)
    assert of(found, "hwdash_inference_itl_seconds_bucket", device=GPU0, model="m", le="0.003") == 0
    assert of(found, "hwdash_inference_itl_seconds_bucket", device=GPU0, model="m", le="0.005") == 1
    assert of(found, "hwdash_inference_itl_seconds_bucket", device=GPU0, model="m", le="0.01") == 3


def test_answers_are_counted_by_how_they_ended() -> None:
    tally, page = Tally({"gpu1": GPU1}.__getitem__), Page()
    tally.add(record())
    tally.add(
        record(finish_reason=FinishReason.LENGTH, timing=Timing(total_s=400.0), energy=Energy(99.0, "device, shared"))
    )
    tally.add(record(device_key=GPU1, finish_reason=FinishReason.ERROR, tokens=TokenCounts(None, 0), timing=Timing()))
    tally.add(record(route=Route("auto", ("gpu1: the worker died",), "gpu1")))
    tally.fill(page)
    found = read(page)
    here = {"device": GPU0, "model": "org/tiny"}
    there = {"device": GPU1, "model": "org/tiny"}
    assert of(found, "hwdash_inference_requests_total", status="stop", **here) == 2
    assert of(found, "hwdash_inference_requests_total", status="length", **here) == 1
    assert of(found, "hwdash_inference_requests_total", status="error", **there) == 1
    assert of(found, "hwdash_inference_fallbacks_total", **there) == 1
    assert of(found, "hwdash_inference_fallbacks_total", **here) is None
    assert of(found, "hwdash_inference_tokens_total", direction="prompt", **here) == 36
    assert of(found, "hwdash_inference_tokens_total", direction="completion", **here) == 9
    assert of(found, "hwdash_inference_energy_joules_total", scope="device", **here) == 60
    assert of(found, "hwdash_inference_energy_joules_total", scope="device, shared", **here) == 99
    assert of(found, "hwdash_inference_energy_tokens_total", scope="device", **here) == 6
    assert of(found, "hwdash_inference_energy_tokens_total", scope="device, shared", **here) is None
    assert of(found, "hwdash_inference_ttft_seconds_bucket", le="0.02", **here) == 2
    assert of(found, "hwdash_inference_duration_seconds_bucket", le="300.0", **here) == 2
    assert of(found, "hwdash_inference_duration_seconds_count", **here) == 3
    assert of(found, "hwdash_inference_duration_seconds_count", **there) == 0


def test_a_server_that_renames_its_models_makes_no_endless_page() -> None:
    tally, page = Tally(str), Page()
    for number in range(MOST_MODELS + 50):
        tally.add(record(model=f"model-{number}"))
    tally.fill(page)
    counts = {
        labels: value for (name, labels), value in read(page).items() if name == "hwdash_inference_requests_total"
    }
    assert len(counts) == MOST_MODELS + 1
    assert sum(counts.values()) == MOST_MODELS + 50


def test_buckets_go_from_a_millisecond_to_five_minutes_without_a_wide_step() -> None:
    assert (BOUNDS[0], BOUNDS[-1]) == (0.001, 300.0)
    assert all(1 < later / earlier <= 2 for earlier, later in itertools.pairwise(BOUNDS))
    assert all(len(str(bound)) <= 5 for bound in BOUNDS)
