"""What a ranking costs: 1,000 mixed devices, with and without words, and a decision among 8.

The devices are of six makes, every fifth is throttled, a quarter have run other models, half have been measured with
the model in question. As a monitor keeps them, devices are the same objects from one ranking to the next, and so are
the throttle reasons of those that are not held back; all else in a snapshot is made anew. The paces are the same
objects too, as they are in a daemon until a device answers: what a ranking remembers of them counts as remembered. The
peers are sorting the same statuses by one attribute, and JSON of the same snapshot.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import msgspec

from bench.report import Figure, write
from hwdash.core.device import Capabilities, Device, DeviceKind, Limits, MemoryPool
from hwdash.core.health import Health, HealthState
from hwdash.core.inference import AUTO
from hwdash.core.model import ModelShape
from hwdash.core.reading import Reading
from hwdash.core.requirement import NO_REQUIREMENTS, Requirements
from hwdash.core.snapshot import DeviceStatus, LastRequest, Snapshot
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.routing.choose import choose
from hwdash.routing.knowledge import Circumstance, Knowledge
from hwdash.routing.pace import Average, Pace
from hwdash.routing.rank import rank
from hwdash.sources.fake import fake_readings

DEVICES = 1000
DECISION = 8
GOAL_MS = 5.0
DECISION_GOAL_MS = 0.3
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = "model"
SHAPE = ModelShape(134_515_008, 30, 2 * 30 * 3 * 64, 8192)
MAKES = (
    (DeviceKind.GPU, ("fp32", "fp16", "bf16", "fp8"), 4.8e12, 700.0, 141),
    (DeviceKind.GPU, ("fp32", "fp16", "bf16"), 2.0e12, 400.0, 80),
    (DeviceKind.GPU, ("fp32", "fp16"), 320e9, 70.0, 16),
    (DeviceKind.GPU, ("fp32", "fp16", "bf16"), None, 300.0, 24),
    (DeviceKind.NPU, ("fp32", "bf16", "int8"), 1.2e12, 250.0, 32),
    (DeviceKind.CPU, ("fp32",), None, None, 512),
)
REASONS = tuple(reason for reason in ThrottleReason if reason is not ThrottleReason.UNKNOWN)[:9]
REQUIREMENTS = Requirements(min_memory_bytes=8 * 2**30, features=("fp32",), max_power_w=800.0, max_latency_s=60.0)


def machine(count: int) -> Snapshot:
    """A snapshot of *count* mixed devices."""
    return Snapshot(1, NOW, 1.0, tuple(_status(number) for number in range(count)))


def _status(number: int) -> DeviceStatus:
    kind, dtypes, bandwidth, power_w, gib = MAKES[number % len(MAKES)]
    device = Device(
        f"bench:{number}",
        kind,
        "Bench",
        f"make {number % len(MAKES)}",
        "bench",
        f"{kind.value}{number}",
        capabilities=Capabilities("9.0", dtypes, 132, inference=True),
        limits=Limits(power_w=power_w, clock_hz=1.98e9, memory_bandwidth_bytes_per_s=bandwidth),
    )
    throttled = number % 5 == 0
    activities = tuple(
        ThrottleActivity(reason, throttled and reason is ThrottleReason.POWER_CAP, 0.8 if throttled else 0.0)
        if reason is ThrottleReason.POWER_CAP
        else ThrottleActivity(reason, False, 0.0)
        for reason in REASONS
    )
    health = Health(HealthState.THROTTLED, ("power cap for 38 s: clock 1395 of 1980 MHz",), NOW)
    total = gib * 2**30
    pool = MemoryPool("memory", total, number % 7 * 2**30, total - number % 7 * 2**30)
    last = LastRequest("another", NOW, 0.05, 40.0) if number % 4 == 0 else None
    ok = Health(HealthState.OK, (), NOW)
    return DeviceStatus(device, _readings(number), (pool,), activities, health if throttled else ok, NOW, 0.1, last)


def _readings(number: int) -> dict[str, Reading]:
    changes = {"utilization": number % 10 / 10, "temperature_margin_c": float(number % 40 + 1)}
    return dict(fake_readings(power_w=100.0 + number % 200, clock_hz=1.4e9, **changes))


def knowledge(snapshot: Snapshot) -> Knowledge:
    """Every second device was measured, every eighth is loaded and busy."""
    circumstances = {
        status.device.key: Circumstance(_pace(number), loaded=number % 8 == 0, running=number % 8 == 0, limit=2)
        for number, status in enumerate(snapshot.devices)
    }
    return Knowledge(MODEL, SHAPE, circumstances)


def _pace(number: int) -> Pace | None:
    if number % 2:
        return None
    return Pace(7, Average(0.024, 0.002), Average(0.021, 0.001), Average(11.0, 0.5), Average(3.0, 0.2))


def _median_ms(work: Callable[[Snapshot], object], snapshot: Snapshot, rounds: int) -> float:
    costs = []
    for number in range(rounds):
        fresh = replace(snapshot, devices=tuple(_renewed(item, number) for item in snapshot.devices))
        began = time.thread_time()
        work(fresh)
        costs.append((time.thread_time() - began) * 1e3)
    return statistics.median(costs)


def _renewed(status: DeviceStatus, tick: int) -> DeviceStatus:
    """The device a tick later: a tenth of them are busier, hotter and hungrier, or less so."""
    throttle = tuple(replace(item) for item in status.throttle) if status.limiting else status.throttle
    readings = dict(status.readings)
    if (tick + int(status.device.key.rpartition(":")[2])) % 10 == 0:
        readings |= {"utilization": tick % 7 / 10, "temperature_margin_c": 4.0 + tick, "power_w": 60.0 + 3.0 * tick}
    return replace(status, readings=readings, throttle=throttle)


def run(rounds: int = 40) -> None:
    """Measure and write ``rank.json``."""
    many, few = machine(DEVICES), machine(DECISION)
    known, few_known = knowledge(many), knowledge(few)
    shaped = Knowledge(MODEL, SHAPE)
    encode = msgspec.json.Encoder().encode
    cases: dict[str, tuple[Callable[[Snapshot], object], Snapshot]] = {
        "rank, snapshot alone, no words": (lambda item: rank(item, explained=0), many),
        "rank, a model's size known, no words": (lambda item: rank(item, NO_REQUIREMENTS, shaped, 0), many),
        "rank, half measured, no words": (lambda item: rank(item, NO_REQUIREMENTS, known, 0), many),
        "rank, half measured, four requirements, no words": (lambda item: rank(item, REQUIREMENTS, known, 0), many),
        "rank, half measured, 16 with words": (lambda item: rank(item, NO_REQUIREMENTS, known, 16), many),
        "rank, half measured, all words": (lambda item: rank(item, NO_REQUIREMENTS, known), many),
        "decision": (lambda item: choose(item, AUTO, NO_REQUIREMENTS, few_known), few),
        "decision, four requirements": (lambda item: choose(item, AUTO, REQUIREMENTS, few_known), few),
        "peer: sorted by an attribute": (lambda item: sorted(item.devices, key=lambda one: one.device.id), many),
        "peer: snapshot as JSON": (encode, many),
    }
    raw = {name: _median_ms(work, snapshot, rounds) for name, (work, snapshot) in cases.items()}
    for name, cost_ms in raw.items():
        print(f"      {name}: {cost_ms:.3f} ms")
    figures = [
        Figure("ranking 1000 devices by snapshot alone", raw["rank, snapshot alone, no words"], GOAL_MS, "ms"),
        Figure("ranking 1000 devices by a model's size", raw["rank, a model's size known, no words"], GOAL_MS, "ms"),
        Figure("ranking 1000 devices, half of them measured", raw["rank, half measured, no words"], GOAL_MS, "ms"),
        Figure("a decision for 8 devices, with words", raw["decision"], DECISION_GOAL_MS, "ms"),
    ]
    write("rank", figures, {"rounds": rounds, "devices": DEVICES, "decision": DECISION, "ms": raw})
