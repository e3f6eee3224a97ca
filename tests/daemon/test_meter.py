"""Sharing out a device's energy: nothing is lost, nothing is counted twice, and everyone pays for his own steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.clock import ManualClock
from hwdash.core.health import Health, HealthState
from hwdash.core.inference import Energy
from hwdash.core.sample import Sample
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.daemon.bracket import Bracket
from hwdash.daemon.idle import FORGET_S, IdlePower
from hwdash.daemon.meter import Meter, Meters, Party
from hwdash.monitor.broadcast import Broadcast
from hwdash.sources.fake import fake_gpu


@dataclass
class Run:
    """A request of the simulation: what it really took part in."""

    party: Party
    before: float
    active_s: float = 0.0
    own_s: float = 0.0
    took: float = 0.0


@dataclass
class Device:
    """A device whose workers make steps in which all of their requests take part, and which draws what it is told."""

    meter: Meter = field(default_factory=Meter)
    now_s: float = 100.0
    joules: float = 5000.0
    busy_j: float = 0.0
    running: list[Run] = field(default_factory=list)

    def go_on(self, seconds: float, watts: float) -> None:
        workers = [run.party.worker for run in self.running]
        self.now_s += seconds
        self.joules += seconds * watts
        if self.running:
            self.busy_j += seconds * watts
        for run in self.running:
            run.active_s += seconds
            run.own_s += seconds / workers.count(run.party.worker)
            run.took += seconds * watts / len(set(workers)) / workers.count(run.party.worker)

    def read(self) -> None:
        self.meter.read(self.now_s, self.joules)

    def begin(self, worker: str = "a") -> Run:
        run = Run(self.meter.enter(worker), self.joules)
        self.read()
        self.meter.begin(run.party)
        run.party.running = True
        self.running.append(run)
        return run

    def end(self, run: Run, *, told: bool = True) -> float:
        self.read()
        self.running.remove(run)
        part = self.meter.leave(run.party, run.own_s / run.active_s if told and run.active_s else None)
        assert part is not None
        return part


steps = st.lists(
    st.tuples(
        st.sampled_from(["begin a", "begin b", "end", "end untold"]),
        st.integers(0, 7),
        st.floats(0.001, 100.0),
        st.floats(1.0, 700.0),
    ),
    max_size=40,
)


@given(steps)
def test_the_parts_add_up_to_what_the_counter_moved_by(steps: list[tuple[str, int, float, float]]) -> None:
    device = Device()
    device.read()
    total = 0.0
    for what, number, seconds, watts in steps:
        if what.startswith("begin"):
            device.begin(what[-1])
        elif device.running:
            part = device.end(device.running[number % len(device.running)], told=what == "end")
            assert part >= 0.0
            total += part
        device.go_on(seconds, watts)
    for run in tuple(device.running):
        total += device.end(run)
    assert total == pytest.approx(device.busy_j, rel=1e-9, abs=1e-6)
    assert not device.meter.busy


@given(st.lists(st.tuples(st.floats(0.01, 10.0), st.floats(1.0, 700.0)), min_size=3, max_size=3))
def test_a_short_one_within_a_long_one_pays_for_half_of_its_time(stretches: list[tuple[float, float]]) -> None:
    device = Device()
    long = device.begin()
    device.go_on(*stretches[0])
    short = device.begin()
    device.go_on(*stretches[1])
    assert device.end(short) == pytest.approx(short.took)
    device.go_on(*stretches[2])
    assert device.end(long) == pytest.approx(long.took)
    assert (long.party.shared, short.party.shared) == (True, True)


def test_who_took_more_of_the_steps_pays_more() -> None:
    device = Device()
    first, second = device.begin(), device.begin()
    device.go_on(10.0, 100.0)
    first.own_s = 8.0  # a long prompt, say, while the other waited
    assert device.end(first) == pytest.approx(800.0)
    assert device.end(second) == pytest.approx(200.0)


def test_workers_share_in_equal_parts_whatever_their_requests_are() -> None:
    device = Device()
    runs = [device.begin("a"), device.begin("b"), device.begin("b"), device.begin("b")]
    device.go_on(10.0, 90.0)
    assert [device.end(run) for run in runs] == pytest.approx([450.0, 150.0, 150.0, 150.0])


def test_alone_it_is_all_ones_own_whatever_the_worker_tells() -> None:
    device = Device()
    run = device.begin()
    device.go_on(10.0, 100.0)
    run.own_s = 3.0
    assert device.end(run) == pytest.approx(1000.0)
    assert not run.party.shared


def test_one_that_waits_is_charged_nothing_and_charges_nobody() -> None:
    device = Device()
    run = device.begin()
    waiting = device.meter.enter("b")
    device.read()
    device.meter.begin(waiting)
    device.go_on(10.0, 100.0)
    device.read()
    assert device.end(run) == pytest.approx(1000.0)
    assert not run.party.shared
    assert device.meter.leave(waiting) == 0.0


def test_a_counter_that_fell_back_is_no_figure_for_those_who_ran() -> None:
    device = Device()
    run = device.begin()
    device.go_on(10.0, 100.0)
    device.joules = 3.0
    device.read()
    device.go_on(10.0, 100.0)
    device.read()
    assert device.meter.leave(run.party) is None
    after = device.begin()
    device.go_on(1.0, 100.0)
    assert device.end(after) == pytest.approx(100.0)


def test_a_late_read_is_passed_over() -> None:
    device = Device()
    run = device.begin()
    device.go_on(10.0, 100.0)
    device.read()
    device.meter.read(device.now_s - 5.0, 1.0)
    assert device.end(run) == pytest.approx(1000.0)


def idle(*samples: tuple[float, float, float | None, bool]) -> IdlePower:
    power = IdlePower()
    for at_s, power_w, utilization, busy in samples:
        power.note(at_s, power_w, utilization, busy=busy)
    return power


def seconds(
    begin: int, end: int, power_w: float, utilization: float | None = 0.0
) -> list[tuple[float, float, float | None, bool]]:
    return [(float(at), power_w, utilization, False) for at in range(begin, end)]


def test_idle_power_is_the_median_of_the_newest_idle_time() -> None:
    power = idle(
        *seconds(1000, 1010, 80.0), (1010.0, 300.0, 0.0, True), (1011.0, 260.0, 0.0, False), (1012.0, 130.0, 0.0, False)
    )
    assert power.watts(1012.0) == 80.0
    for at_s, watts, utilization, busy in seconds(1013, 1030, 120.0):
        power.note(at_s, watts, utilization, busy=busy)
    assert power.watts(1030.0) == 120.0


@pytest.mark.parametrize(
    "samples",
    [
        [],
        seconds(1000, 1006, 80.0),
        seconds(1000, 1030, 80.0, 0.3),
        seconds(1000, 1030, 80.0, None),
        [(float(at), 80.0, 0.0, at % 5 == 0) for at in range(1000, 1030)],
        [(1000.0, 80.0, 0.0, False)] * 30,
    ],
    ids=["nothing", "too short", "somebody else is at work", "nobody knows", "requests in between", "the same sample"],
)
def test_idle_power_that_was_never_seen_is_absent(samples: list[tuple[float, float, float | None, bool]]) -> None:
    assert idle(*samples).watts(1030.0) is None


def test_idle_power_is_forgotten_after_an_hour() -> None:
    power = idle(*seconds(1000, 1020, 80.0))
    assert power.watts(1019.0 + FORGET_S) == 80.0
    assert power.watts(1021.0 + FORGET_S) is None


def test_until_the_device_has_settled_nothing_counts() -> None:
    working = (999.0, 300.0, 0.9, False)
    many = [(1000.0 + step / 10, 200.0, 0.0, False) for step in range(20)]
    assert idle(working, *many, *seconds(1002, 1008, 80.0)).watts(1008.0) == 80.0


def test_a_part_of_the_steps_is_told_of_all_the_time_and_what_was_alone_is_ones_own() -> None:
    device = Device()
    first = device.begin()
    device.go_on(6.0, 100.0)
    second = device.begin()
    device.go_on(4.0, 100.0)
    first.own_s = 7.0  # one of the four seconds beside the other
    assert device.end(first) == pytest.approx(700.0)
    assert device.end(second) == pytest.approx(300.0)


async def test_nothing_is_idle_while_somebody_is_at_work() -> None:
    working = {fake_gpu(0).key}
    meters, start = Meters(working.__contains__), ManualClock().now()
    readings = {"power_w": 80.0, "utilization": 0.0}
    statuses = [
        DeviceStatus(fake_gpu(number), readings, (), (), Health(HealthState.OK, (), start), None, None)
        for number in (0, 1)
    ]

    async def snapshots() -> AsyncGenerator[Snapshot, None]:
        for at in range(60):
            if at == 30:
                assert [meters.of(fake_gpu(number).key).idle.watts(_at(start, at)) for number in (0, 1)] == [None, 80.0]
                working.clear()
            devices = tuple(replace(item, sampled_at=start + timedelta(seconds=at)) for item in statuses)
            yield Snapshot(at, start, 1.0, devices)

    await meters.watch(snapshots())
    assert meters.of(fake_gpu(0).key).idle.watts(_at(start, 59)) == 80.0


def _at(start: datetime, seconds: float) -> float:
    return (start + timedelta(seconds=seconds)).timestamp()


class Counting:
    """A monitor whose device draws 100 W by its counter, on a clock of its own."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock

    async def refresh(self, key: str, timeout_s: float = 0.1) -> Sample | None:
        now_s = self.clock.monotonic()
        return Sample(key, now_s, self.clock.now(), {"energy_j": 100.0 * now_s})


def figures(energy: Energy | None) -> tuple[float, ...]:
    """Joules, those of a token, share and idle joules; -1 for what there is not."""
    assert energy is not None
    found = (energy.joules, energy.joules_per_token, energy.share, energy.idle_joules)
    return tuple(-1.0 if figure is None else figure for figure in found)


async def test_idle_joules_are_stated_separately() -> None:
    clock, meter = ManualClock(), Meter()
    now_s = clock.now().timestamp()
    for at in range(-20, 0):
        meter.idle.note(now_s + at, 30.0, 0.0, busy=False)
    snapshots: Broadcast[Snapshot] = Broadcast()
    brackets = [Bracket(Counting(clock), snapshots, fake_gpu(0), meter, "model", clock) for _ in range(2)]
    for bracket in brackets:
        bracket.open()
        bracket.run()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.advance(10.0)
    assert figures((await brackets[0].close(50, 0.3))[0]) == pytest.approx((300.0, 6.0, 0.3, 90.0))
    assert figures((await brackets[1].close(50, 0.7))[0]) == pytest.approx((700.0, 14.0, 0.7, 210.0))
    clock.advance(FORGET_S)
    bracket = Bracket(Counting(clock), snapshots, fake_gpu(0), meter, "model", clock)
    bracket.open()
    bracket.run()
    await asyncio.sleep(0)
    clock.advance(1.0)
    assert figures((await bracket.close(10))[0]) == pytest.approx((100.0, 10.0, 1.0, -1.0))
