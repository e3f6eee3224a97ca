"""The order of the devices: total, deterministic, on scales that no other device moves, and explained."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.health import Health, HealthState
from hwdash.core.ranking import ExcludedDevice, RankedDevice
from hwdash.core.requirement import NO_REQUIREMENTS, Policy, Requirements
from hwdash.core.snapshot import DeviceStatus, LastRequest
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.routing.knowledge import NOTHING_KNOWN, Circumstance, Knowledge
from hwdash.routing.rank import rank
from hwdash.routing.score import POWER_WEIGHT, UNKNOWN, UNMEASURED_CPU, WEIGHTS, weights_of
from hwdash.routing.settle import LEAD
from tests.routing.build import (
    CAPPED,
    GIB,
    LARGE,
    NOW,
    REASONS,
    SMALL,
    device_status,
    knowing,
    knowledges,
    machines,
    pace_of,
    requirements,
    snapshot_of,
    statuses,
)


def ranked_of(
    *devices: DeviceStatus, asked: Requirements = NO_REQUIREMENTS, known: Knowledge = NOTHING_KNOWN
) -> tuple[RankedDevice, ...]:
    return rank(snapshot_of(*devices), asked, known).ranked


def order_of(
    *devices: DeviceStatus, asked: Requirements = NO_REQUIREMENTS, known: Knowledge = NOTHING_KNOWN
) -> list[str]:
    return [item.device for item in ranked_of(*devices, asked=asked, known=known)]


@given(machines, requirements, knowledges)
def test_every_device_stands_in_exactly_one_list_with_reasons(
    devices: list[DeviceStatus], asked: Requirements, known: Knowledge
) -> None:
    ranking = rank(snapshot_of(*devices), asked, known)
    entries: list[RankedDevice | ExcludedDevice] = [*ranking.ranked, *ranking.excluded]
    assert sorted(entry.device for entry in entries) == sorted(status.device.id for status in devices)
    assert all(entry.why and all(entry.why) for entry in entries)
    for entry in ranking.ranked:
        assert 0 <= entry.score <= 1
        assert all(0 <= part <= 1 for part in entry.parts.values())
        assert entry.score == round(entry.score, 3)
        assert entry.parts.keys() == weights_of(asked).keys()
        weighted = sum(weight * entry.parts[name] for name, weight in weights_of(asked).items())
        assert entry.expected is not None
        keeps = UNMEASURED_CPU if entry.device.startswith("cpu") and not entry.expected.measured else 1.0
        assert entry.score == pytest.approx(weighted * keeps, abs=2e-3)
    scores = [entry.score for entry in ranking.ranked]
    assert scores == sorted(scores, reverse=True)
    msgspec.json.encode(ranking)


def test_nothing_remembered_of_earlier_rankings_changes_a_later_one() -> None:
    gpu, cpu = device_status("gpu0"), device_status("cpu0", dtypes=("fp32",), limit_w=None)
    pace = pace_of()
    cases = [
        knowing(dict.fromkeys(("gpu0", "cpu0"), item), shape)
        for shape in (SMALL, LARGE, None)
        for item in (
            Circumstance(),
            Circumstance(pace),
            Circumstance(pace_of(0.1, 0.05)),
            Circumstance(pace, loaded=True),
            Circumstance(pace, server="llama"),
            Circumstance(pace, running=2),
            Circumstance(pace, running=2, limit=2),
        )
    ]
    cases += [replace(known, answer_tokens=500) for known in cases] + [replace(known, model=None) for known in cases]
    changed = [
        snapshot_of(*(replace(item, readings={"power_w": watts}) for item in (gpu, cpu))) for watts in (90.0, 20.0)
    ]
    asked = list(itertools.product(cases, changed))
    for earlier, later in itertools.permutations(random.Random(1).sample(asked, 60), 2):
        rank(earlier[1], knowledge=earlier[0], explained=0)
        new = snapshot_of(*(replace(item, device=replace(item.device)) for item in later[1].devices))
        assert rank(later[1], knowledge=later[0], explained=0) == rank(new, knowledge=later[0], explained=0)


@given(machines, requirements, knowledges, st.randoms(use_true_random=False))
def test_the_order_of_the_snapshot_does_not_matter(
    devices: list[DeviceStatus], asked: Requirements, known: Knowledge, source: random.Random
) -> None:
    shuffled = list(devices)
    source.shuffle(shuffled)
    assert rank(snapshot_of(*shuffled), asked, known) == rank(snapshot_of(*devices), asked, known)


@given(machines, requirements, knowledges, statuses)
def test_a_device_that_joins_changes_no_other_ones_score_or_order(
    devices: list[DeviceStatus], asked: Requirements, known: Knowledge, intruder: DeviceStatus
) -> None:
    intruder = replace(intruder, device=replace(intruder.device, id="gpu99", key="fake:gpu99"))
    before = rank(snapshot_of(*devices), asked, known)
    after = rank(snapshot_of(*devices, intruder), asked, known)
    assert tuple(item for item in after.ranked if item.device != "gpu99") == before.ranked
    if intruder.health.state in (HealthState.LOST, HealthState.STALE):
        assert "gpu99" in {item.device for item in after.excluded}


@given(statuses, requirements, knowledges, st.floats(0, 3000), st.floats(0, 3000), st.booleans())
def test_less_power_never_ranks_lower_where_low_power_is_preferred(
    status: DeviceStatus, asked: Requirements, known: Knowledge, first_w: float, second_w: float, by_limit: bool
) -> None:
    def drawing(name: str, watts: float) -> DeviceStatus:
        limits = replace(status.device.limits, power_w=watts if by_limit else None)
        device = replace(status.device, id=name, key=f"fake:{name}", limits=limits)
        readings = status.readings if by_limit else {**status.readings, "power_w": watts}
        return replace(status, device=device, readings=readings)

    asked = replace(asked, prefer_low_power=True)
    item = known.of(status.device.key)
    known = replace(known, circumstances={"fake:gpu90": item, "fake:gpu91": item})
    less, more = sorted((first_w, second_w))
    order = order_of(drawing("gpu90", more), drawing("gpu91", less), asked=asked, known=known)
    if less < more and "gpu90" in order:
        assert order == ["gpu91", "gpu90"]


@given(statuses, knowledges, st.sampled_from(Policy))
def test_a_throttled_device_is_below_its_equal_that_is_not(
    status: DeviceStatus, known: Knowledge, policy: Policy
) -> None:
    kind = status.device.kind.value
    readings = {**status.readings, "temperature_margin_c": 20.0}
    healthy = replace(status, health=Health(HealthState.OK, (), NOW), throttle=(), readings=readings)
    throttled = replace(healthy, health=Health(HealthState.THROTTLED, REASONS[HealthState.THROTTLED], NOW))
    capped = replace(healthy, throttle=CAPPED)
    item = known.of(status.device.key)
    known = replace(known, circumstances={f"fake:{kind}{number}": item for number in (50, 51, 52)})
    devices = (
        replace(item, device=replace(item.device, id=f"{kind}{number}", key=f"fake:{kind}{number}"))
        for number, item in ((50, throttled), (51, capped), (52, healthy))
    )
    order = order_of(*devices, asked=Requirements(policy=policy), known=known)
    if order:
        assert order[0] == f"{kind}52"


@given(statuses, knowledges, st.integers(0, 2000 * GIB), st.integers(0, 2000 * GIB))
def test_less_free_memory_never_raises_the_score(
    status: DeviceStatus, known: Knowledge, first: int, second: int
) -> None:
    if len(status.pools) != 1 or status.device.kind.value == "cpu":
        return
    scores = []
    for free in sorted((first, second)):
        found = ranked_of(replace(status, pools=(replace(status.pools[0], free_bytes=free),)), known=known)
        scores.append(found[0].score if found else -1.0)
    assert scores == sorted(scores)


@given(machines, requirements, knowledges, st.integers(0, 9))
def test_words_for_the_first_only_leave_order_and_scores_as_they_are(
    devices: list[DeviceStatus], asked: Requirements, known: Knowledge, explained: int
) -> None:
    whole = rank(snapshot_of(*devices), asked, known)
    short = rank(snapshot_of(*devices), asked, known, explained)
    assert [(item.device, item.score) for item in short.ranked] == [(item.device, item.score) for item in whole.ranked]
    assert short.ranked[:explained] == whole.ranked[:explained]
    assert all(not item.why and item.expected is None for item in short.ranked[explained:])
    assert short.excluded == whole.excluded


@pytest.mark.parametrize("policy", Policy)
def test_weights_sum_to_one_heaviest_first(policy: Policy) -> None:
    for low_power in (False, True):
        weights = list(weights_of(Requirements(policy=policy, prefer_low_power=low_power)).values())
        assert sum(weights) == pytest.approx(1)
        assert weights == sorted(weights, reverse=True)
    assert weights_of(Requirements(policy=policy, prefer_low_power=True))["power"] == POWER_WEIGHT
    assert WEIGHTS[policy]["throttle"] / 2 > LEAD


def test_equals_stand_in_the_order_of_their_numbers() -> None:
    assert order_of(*(device_status(f"gpu{number}") for number in (10, 2, 9, 0))) == ["gpu0", "gpu2", "gpu9", "gpu10"]


def test_equals_stand_custom_chips_before_gpus_before_cpus() -> None:
    last = LastRequest("m", NOW, 0.1, 50.0)
    names = ["cpu0", "gpu0", "npu0", "other0", "fpga0", "tpu0"]
    assert order_of(*(device_status(name, last=last) for name in names)) == [
        "fpga0",
        "npu0",
        "other0",
        "tpu0",
        "gpu0",
        "cpu0",
    ]


def test_jitter_of_memory_load_and_margin_does_not_turn_the_order_around() -> None:
    quiet = device_status("gpu0", free=60 * GIB - 300 * 2**20, load=0.02, margin=24.4)
    assert order_of(quiet, device_status("gpu1", free=60 * GIB, margin=24.6)) == ["gpu0", "gpu1"]


def test_an_unmeasured_cpu_is_below_a_gpu_that_has_less_of_everything() -> None:
    cpu = device_status("cpu0", free=2000 * GIB, limit_w=65.0, watts=10.0)
    gpu = device_status("gpu0", free=20 * GIB, load=1.0, watts=690.0, margin=0.0, throttle=CAPPED, clock_hz=1e9)
    for policy, low_power in itertools.product(Policy, (False, True)):
        asked = Requirements(policy=policy, prefer_low_power=low_power)
        assert order_of(cpu, gpu, asked=asked) == ["gpu0", "cpu0"]
        assert order_of(cpu, gpu, asked=asked, known=knowing()) == ["gpu0", "cpu0"]
    assert "its score ×0.2: a CPU counts little until it was measured" in ranked_of(cpu)[0].why


def test_a_cpu_that_was_measured_faster_comes_first() -> None:
    cpu = device_status("cpu0", last=LastRequest("m", NOW, 0.01, 100.0))
    slow = device_status("gpu0", last=LastRequest("m", NOW, 0.1, 10.0))
    assert order_of(slow, cpu) == ["cpu0", "gpu0"]


def test_measured_comes_before_an_estimate_of_the_same() -> None:
    guess = ranked_of(device_status("gpu0", bandwidth=4.8e12), known=knowing({"gpu0": Circumstance(loaded=True)}))[0]
    assert guess.expected is not None
    assert guess.expected.ttft_s is not None
    assert guess.expected.tokens_per_s is not None
    same = pace_of(guess.expected.ttft_s, 1 / guess.expected.tokens_per_s, joules=guess.expected.joules_per_token)
    known = knowing({"gpu0": Circumstance(loaded=True), "gpu1": Circumstance(same, loaded=True)})
    devices = [device_status(name, bandwidth=4.8e12) for name in ("gpu0", "gpu1")]
    assert order_of(*devices, known=known) == ["gpu1", "gpu0"]


def test_a_measurement_that_varies_counts_less() -> None:
    known = knowing(
        {
            "gpu0": Circumstance(pace_of(deviation=0.6), loaded=True),
            "gpu1": Circumstance(pace_of(deviation=0.05), loaded=True),
        }
    )
    assert order_of(device_status("gpu0"), device_status("gpu1"), known=known) == ["gpu1", "gpu0"]


def test_each_policy_is_after_its_own() -> None:
    known = knowing(
        {
            "gpu0": Circumstance(pace_of(0.01, 0.004, joules=8.0), loaded=True, running=1, waiting=8),
            "gpu1": Circumstance(pace_of(0.05, 0.02, joules=6.0), loaded=True),
            "npu0": Circumstance(pace_of(0.1, 0.05, joules=0.2), loaded=True),
        }
    )
    devices = [device_status(name) for name in ("gpu0", "gpu1", "npu0")]

    def first(policy: Policy) -> str:
        return order_of(*devices, asked=Requirements(policy=policy), known=known)[0]

    assert first(Policy.THROUGHPUT) == "gpu0"
    assert first(Policy.LATENCY) == "gpu1"
    assert first(Policy.EFFICIENCY) == "npu0"


def test_low_power_is_preferred_by_what_may_be_drawn_not_by_what_is_drawn() -> None:
    idle = device_status("gpu0", limit_w=700.0, watts=20.0)
    small = device_status("gpu1", limit_w=70.0, watts=60.0)
    found = ranked_of(idle, small, asked=Requirements(prefer_low_power=True))
    assert [item.device for item in found] == ["gpu1", "gpu0"]
    assert "may draw 70 W" in found[0].why
    assert found[0].parts["headroom"] == found[1].parts["headroom"]


def test_how_much_a_device_is_held_back() -> None:
    def part(status: DeviceStatus) -> float:
        return ranked_of(status)[0].parts["throttle"]

    def limiting(reason: ThrottleReason, duty: float | None) -> DeviceStatus:
        return device_status("gpu0", throttle=(ThrottleActivity(reason, True, duty),))

    assert part(device_status("gpu0")) == 1.0
    assert part(limiting(ThrottleReason.POWER_CAP, 0.8)) == pytest.approx(0.2)
    assert part(limiting(ThrottleReason.POWER_CAP, None)) == 0.0
    assert part(limiting(ThrottleReason.SYNC_BOOST, 1.0)) == 1.0
    assert part(device_status("gpu0", margin=-2.0)) == 0.0
    suspected = device_status("gpu0", health=HealthState.THROTTLED)
    assert part(replace(suspected, health=replace(suspected.health, suspected=True))) == 0.5


def test_queue_and_utilisation_count_whichever_is_worse() -> None:
    known = knowing({"gpu0": Circumstance(running=2, limit=4), "gpu1": Circumstance(running=3, waiting=9, limit=4)})
    found = ranked_of(device_status("gpu0", load=0.2), device_status("gpu1", load=0.2), known=known)
    assert {item.device: item.parts["load"] for item in found} == {"gpu0": 0.5, "gpu1": 0.0}


def test_what_is_unknown_is_neutral_and_said() -> None:
    blank = device_status("gpu0", free=None, load=None, limit_w=None, watts=None, margin=None)
    found = ranked_of(blank)[0]
    assert found.parts == dict.fromkeys(found.parts, UNKNOWN) | {"throttle": 1.0}
    assert found.why == ("not measured yet", "load unknown", "free memory unknown")
    assert (
        ranked_of(blank, known=knowing(shape=None))[0].why[0]
        == "never measured with this model; its speed is not known"
    )


def test_the_reasons_carry_the_numbers_what_to_expect_first() -> None:
    capped = device_status(
        "gpu0", health=HealthState.THROTTLED, throttle=CAPPED, clock_hz=1.395e9, load=0.5, watts=690.0
    )
    item = Circumstance(pace_of(), loaded=True, running=2, limit=2, limit_why="power cap: 2 at once instead of 4")
    ranking = rank(snapshot_of(capped), Requirements(min_memory_bytes=GIB), knowing({"gpu0": item}))
    assert ranking.policy == "balanced"
    assert ranking.requirements == {"min_memory": GIB}
    assert ranking.ranked[0].why == (
        "TTFT 24.0 ms, 50.0 tok/s over 7 answers ±8 %",
        "expected 1.42 times as slow now: clock 1395 of 1980 MHz",
        "64 tokens in 2.78 s with 925 ms of waiting",
        "throttled: power cap for 38 s: clock 1395 of 1980 MHz",
        "40 °C to slowdown, 690 W of 700 W",
        "50% busy; 2 running and 0 waiting, 2 at once; power cap: 2 at once instead of 4",
        "3.00 J a token",
        "130 GiB free, the model is loaded",
    )


def test_an_estimate_says_what_it_rests_on() -> None:
    told = ranked_of(device_status("gpu0", bandwidth=4.8e12), known=knowing())[0]
    assert told.why[0] == "estimated: 21.1 ms to first token, 47.5 tok/s (0.27 GB at 4.8 TB/s, 30 layers)"
    assert told.why[1] == "64 tokens in 11.5 s with 10.1 s of cold start"
    assert "about 5.90 J a token, estimated" in told.why
    assumed = ranked_of(device_status("gpu0"), known=knowing(shape=LARGE))[0]
    assert "16.06 GB at an assumed 400 GB/s, 32 layers" in assumed.why[0]


def test_a_reason_that_is_no_health_state_yet_is_named_with_its_duty() -> None:
    assert "limited: power cap for 80% of the time" in ranked_of(device_status("gpu0", throttle=CAPPED))[0].why
    assert "7 °C to slowdown at 89 °C" in ranked_of(device_status("gpu0", health=HealthState.WARM))[0].why
