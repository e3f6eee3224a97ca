"""The choice: auto takes the best, or one that is ready sooner; a name takes that device or says why not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from hwdash.core.errors import NoSuitableDevice, UnknownDevice
from hwdash.core.health import HealthState
from hwdash.core.requirement import NO_REQUIREMENTS, Policy, Requirements
from hwdash.core.snapshot import DeviceStatus
from hwdash.routing.choose import Choice, choose
from hwdash.routing.knowledge import NOTHING_KNOWN, Circumstance, Knowledge
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
    choice = chosen("auto", GPUS[0], slow, known=known)
    if rank(snapshot_of(GPUS[0], slow), NO_REQUIREMENTS, known).ranked[0].device == "gpu0":
        assert choice.candidates[0].why[0].endswith("on gpu0 with a queue")
    assert names(choice) == ["gpu1", "gpu0"]


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
