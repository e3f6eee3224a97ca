"""The choice: auto takes the best, or one that is ready sooner; a name takes that device or says why not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from hwdash.core.errors import NoSuitableDevice, Overloaded, UnknownDevice
from hwdash.core.health import HealthState
from hwdash.core.ranking import RankedDevice
from hwdash.core.requirement import NO_REQUIREMENTS, Policy, Requirements
from hwdash.core.snapshot import DeviceStatus
from hwdash.routing.choose import Choice, choose
from hwdash.routing.knowledge import NOTHING_KNOWN, Circumstance, Knowledge
from hwdash.routing.pace import Average
from hwdash.routing.rank import rank
from tests.routing.build import device_status, knowing, knowledges, machines, pace_of, requirements, snapshot_of

GPUS = (device_status("gpu0", bandwidth=4.8e12), device_status("gpu1", bandwidth=1e12))
ONE_LOADED = knowing(
    {"gpu0": Circumstance(pace_of(0.01, 0.005)), "gpu1": Circumstance(pace_of(0.04, 0.04), loaded=True)}
)


def chosen(
    requested: str, *devices: DeviceStatus, asked: Requirements = NO_REQUIREMENTS, known: Knowledge = NOTHING_KNOWN
) -> Choice:
    return choose(snapshot_of(*devices), requested, asked, known)


def names(choice: Choice) -> list[str]:
    return [candidate.status.device.id for candidate in choice.candidates]


@given(machines, requirements, knowledges)
def test_auto_tries_every_suitable_device_once(
    devices: list[DeviceStatus], asked: Requirements, known: Knowledge
) -> None:
    ranking = rank(snapshot_of(*devices), asked, known)
    if not ranking.ranked:
        with pytest.raises(NoSuitableDevice) as caught:
            chosen("auto", *devices, asked=asked, known=known)
        assert all(reason in caught.value.message for item in ranking.excluded for reason in item.why)
        return
    choice = chosen("auto", *devices, asked=asked, known=known)
    order = [item.device for item in ranking.ranked]
    first = names(choice)[0]
    assert names(choice) == [first, *(name for name in order if name != first)]
    assert all(candidate.why and all(candidate.why) for candidate in choice.candidates)
    expected = {item.device: item.expected for item in ranking.ranked}
    if first != order[0]:
        sooner, later = expected[first], expected[order[0]]
        assert sooner is not None
        assert later is not None
        assert sooner.answer_s is not None
        assert later.answer_s is not None
        assert sooner.answer_s < later.answer_s


def test_auto_takes_the_first_of_the_ranking_and_says_why() -> None:
    choice = chosen("auto", device_status("gpu0", health=HealthState.THROTTLED), device_status("gpu1"))
    assert names(choice) == ["gpu1", "gpu0"]
    assert choice.candidates[0].why[0].startswith("best of 2 devices, score 0.")
    assert choice.candidates[0].why[1] == "not measured yet"
    assert choice.candidates[1].why[0].startswith("number 2 of 2 devices, score 0.")
    assert chosen("auto", device_status("gpu0")).candidates[0].why[0] == "the only device that can take it"


def test_a_loaded_device_goes_first_where_a_cold_start_would_cost_more() -> None:
    ahead = replace(
        ONE_LOADED, circumstances={key: replace(item, loaded=True) for key, item in ONE_LOADED.circumstances.items()}
    )
    assert names(chosen("auto", *GPUS, known=ahead)) == ["gpu0", "gpu1"]
    asked = Requirements(policy=Policy.THROUGHPUT)
    assert names(chosen("auto", *GPUS, asked=asked, known=ONE_LOADED)) == ["gpu0", "gpu1"]


def test_the_cold_start_rule_says_what_it_compared() -> None:
    # The loaded device is throttled and busy: it comes second in the ranking, and would still be done first.
    slow = replace(
        device_status("gpu1", load=1.0, margin=-1.0), health=device_status("gpu1", health=HealthState.THROTTLED).health
    )
    known = knowing({"gpu0": Circumstance(pace_of(0.01, 0.002)), "gpu1": Circumstance(pace_of(0.05, 0.1), loaded=True)})
    ranking = rank(snapshot_of(GPUS[0], slow), NO_REQUIREMENTS, known)
    assert [item.device for item in ranking.ranked] == ["gpu0", "gpu1"]
    choice = chosen("auto", GPUS[0], slow, known=known)
    assert names(choice) == ["gpu1", "gpu0"]
    assert choice.candidates[0].why[:2] == (
        "gpu1 has the model loaded: 6.45 s against 10.3 s on gpu0 with a cold start",
        f"number 2 of 2 devices, score {ranking.ranked[1].score:.3f}",
    )
    for policy, low_power in ((Policy.THROUGHPUT, False), (Policy.EFFICIENCY, False), (Policy.BALANCED, True)):
        asked = Requirements(policy=policy, prefer_low_power=low_power)
        order = [item.device for item in rank(snapshot_of(GPUS[0], slow), asked, known).ranked]
        assert names(chosen("auto", GPUS[0], slow, asked=asked, known=known)) == order


def test_a_queue_yields_to_a_loaded_device_without_one() -> None:
    busy = Circumstance(pace_of(0.01, 0.002), loaded=True, running=1, waiting=30)
    slow = replace(
        device_status("gpu1", load=1.0, margin=-1.0), health=device_status("gpu1", health=HealthState.THROTTLED).health
    )
    known = knowing({"gpu0": busy, "gpu1": Circumstance(pace_of(0.05, 0.06), loaded=True)})
    assert rank(snapshot_of(GPUS[0], slow), NO_REQUIREMENTS, known).ranked[0].device == "gpu0"
    choice = chosen("auto", GPUS[0], slow, known=known)
    assert names(choice) == ["gpu1", "gpu0"]
    assert choice.candidates[0].why[0].endswith("on gpu0 with a queue")


@pytest.mark.parametrize(
    ("second", "order"),
    [
        (Circumstance(pace_of(0.05, 0.06), loaded=True), ["gpu1", "gpu0"]),
        (Circumstance(pace_of(0.05, 0.06)), ["gpu0", "gpu1"]),
        (Circumstance(pace_of(0.05, 0.06), server="rack"), ["gpu1", "gpu0"]),
    ],
)
def test_a_cold_start_yields_only_to_a_device_that_has_the_model(second: Circumstance, order: list[str]) -> None:
    slow = replace(
        device_status("gpu1", load=1.0, margin=-1.0), health=device_status("gpu1", health=HealthState.THROTTLED).health
    )
    # The other one's cold start was quicker to measure: it would end sooner all the same.
    first = Circumstance(replace(pace_of(0.01, 0.002), cold_start_s=Average(60.0)))
    if second.pace is not None and not second.loaded and second.server is None:
        second = replace(second, pace=replace(second.pace, cold_start_s=Average(1.0)))
    known = knowing({"gpu0": first, "gpu1": second})
    assert rank(snapshot_of(GPUS[0], slow), NO_REQUIREMENTS, known).ranked[0].device == "gpu0"
    assert names(chosen("auto", GPUS[0], slow, known=known)) == order


def test_auto_keeps_to_the_order_that_is_shown_where_the_scores_are_close() -> None:
    asked = Requirements(model="m")
    close = (device_status("gpu0", load=0.2), device_status("gpu1"))
    by_score = ["gpu1", "gpu0"]
    assert [item.device for item in rank(snapshot_of(*close), asked).ranked] == by_score
    shown = rank(snapshot_of(close[0]), asked)
    snapshot = replace(
        snapshot_of(*close), ranking=replace(shown, ranked=(*shown.ranked, RankedDevice("gpu1", 0.5, {}, ())))
    )
    assert names(choose(snapshot, "auto", replace(asked, context_tokens=100))) == ["gpu0", "gpu1"]
    for other in (Requirements(model="n"), Requirements(model="m", policy=Policy.LATENCY), NO_REQUIREMENTS):
        assert names(choose(snapshot, "auto", other)) == by_score
    apart = (device_status("gpu0", health=HealthState.THROTTLED, load=1.0), close[1])
    assert names(choose(replace(snapshot, devices=apart), "auto", asked)) == by_score


def test_devices_that_are_kept_back_for_a_while_say_when_to_come_again() -> None:
    held = {
        "gpu0": Circumstance(barred="3 failures in a row", again_s=40.0),
        "gpu1": Circumstance(barred="out of memory", again_s=7.0),
    }
    with pytest.raises(
        Overloaded, match=r"\(gpu0: 3 failures in a row; gpu1: out of memory\); try again in about 7 s"
    ) as caught:
        chosen("auto", *GPUS, known=knowing(held))
    assert caught.value.retry_after_s == 7.0
    # Those that would not do anyway promise nothing.
    lost = device_status("gpu1", health=HealthState.LOST)
    with pytest.raises(Overloaded, match=r"\(gpu0: 3 failures in a row\)") as caught:
        chosen("auto", GPUS[0], lost, known=knowing(held))
    assert caught.value.retry_after_s == 40.0
    for asked in (Requirements(min_memory_bytes=2**50), Requirements(max_power_w=1.0)):
        with pytest.raises(NoSuitableDevice):
            chosen("auto", *GPUS, asked=asked, known=knowing(held))
    with pytest.raises(NoSuitableDevice):
        chosen("auto", GPUS[0], known=knowing({"gpu0": Circumstance(barred="no kernels")}))


@pytest.mark.parametrize("name", ["gpu0", "fake:gpu0"])
def test_a_throttled_device_is_taken_by_name_with_its_reason(name: str) -> None:
    choice = chosen(name, device_status("gpu0", health=HealthState.THROTTLED), device_status("gpu1"))
    assert names(choice) == ["gpu0"]
    assert choice.candidates[0].why == (
        "asked for by name",
        "throttled: power cap for 38 s: clock 1395 of 1980 MHz",
    )
    assert chosen(name, device_status("gpu0")).candidates[0].why == ("asked for by name",)


@pytest.mark.parametrize("health", [HealthState.STALE, HealthState.LOST])
def test_a_device_without_samples_is_not_taken_by_name(health: HealthState) -> None:
    status = device_status("gpu0", health=health)
    with pytest.raises(NoSuitableDevice) as caught:
        chosen("gpu0", status, device_status("gpu1"))
    assert status.health.reasons[0] in caught.value.message


def test_a_device_that_does_not_meet_the_requirements_is_not_taken_by_name() -> None:
    with pytest.raises(NoSuitableDevice, match=r"npu0.*cannot run models"):
        chosen("npu0", device_status("npu0", inference=False))
    with pytest.raises(
        NoSuitableDevice, match="may draw 100 W at most, its limit is 700 W; choose another device or auto"
    ):
        chosen("gpu0", device_status("gpu0"), asked=Requirements(max_power_w=100.0))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownDevice, match="gpu0"):
        chosen("gpu7", device_status("gpu0"))


def test_auto_without_any_suitable_device_names_each_reason() -> None:
    with pytest.raises(NoSuitableDevice) as caught:
        chosen("auto", device_status("gpu0", health=HealthState.LOST), device_status("npu0", inference=False))
    assert "gpu0: lost: fell off the bus" in caught.value.message
    assert "npu0: hwdash cannot run models on it" in caught.value.message
    assert "\n" not in caught.value.message


def test_auto_without_any_device_says_where_to_look() -> None:
    with pytest.raises(NoSuitableDevice, match="hwdash status"):
        chosen("auto")
