"""What probes say, in a ranking."""

from __future__ import annotations

from dataclasses import replace

from hwdash.core.health import SuspicionKind
from hwdash.routing.knowledge import Circumstance
from hwdash.routing.rank import rank
from hwdash.routing.score import DOUBTED
from tests.routing.build import device_status, knowing, pace_of, snapshot_of

WELL = Circumstance(pace_of(), loaded=True)


def test_a_device_whose_newest_probe_was_not_well_counts_half() -> None:
    doubted = Circumstance(pace_of(), loaded=True, doubt="its probe at 12:03 failed: no token within 30 s")
    devices = snapshot_of(device_status("gpu0"), device_status("gpu1"))
    first, second = rank(devices, knowledge=knowing({"gpu0": doubted, "gpu1": WELL})).ranked
    assert (first.device, second.device) == ("gpu1", "gpu0")
    assert abs(second.score - DOUBTED * first.score) < 0.002
    assert "its score ×0.5: its probe at 12:03 failed: no token within 30 s" in second.why
    assert not any("probe" in words for words in first.why)


def test_uptime_is_told_below_99_per_cent_and_never_rounded_up_to_it() -> None:
    devices = snapshot_of(device_status("gpu0"))
    for ratio, told in ((1.0, ""), (0.99, ""), (0.98999, "98.9 % of its probes of 24 h were well")):
        why = (
            rank(devices, knowledge=knowing({"gpu0": Circumstance(pace_of(), loaded=True, up_ratio=ratio)}))
            .ranked[0]
            .why
        )
        assert [words for words in why if "probes" in words] == ([told] if told else [])


def test_drift_is_told_once() -> None:
    status = device_status("gpu0")
    known = knowing({"gpu0": Circumstance(pace_of(), loaded=True, drift=0.18)})
    words = "its newest probes took 18 % longer than at their best"
    assert words in rank(snapshot_of(status), knowledge=known).ranked[0].why
    health = replace(status.health, suspected=True, suspicions=(SuspicionKind.PROBES,))
    assert words not in rank(snapshot_of(replace(status, health=health)), knowledge=known).ranked[0].why
