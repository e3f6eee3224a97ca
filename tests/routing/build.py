"""Devices, snapshots and paces for the tests of this room, and strategies that draw them."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import strategies as st

from hwdash.core.device import Capabilities, Device, DeviceKind, Limits, MemoryPool
from hwdash.core.health import Health, HealthState
from hwdash.core.model import ModelShape
from hwdash.core.reading import Absent, Reading
from hwdash.core.requirement import Policy, Requirements
from hwdash.core.snapshot import DeviceStatus, LastRequest, Snapshot
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.routing.knowledge import Circumstance, Knowledge
from hwdash.routing.pace import Average, Pace

GIB = 2**30
NOW = datetime(2026, 1, 1, tzinfo=UTC)
REASONS = {
    HealthState.OK: (),
    HealthState.WARM: ("7 °C to slowdown at 89 °C",),
    HealthState.THROTTLED: ("power cap for 38 s: clock 1395 of 1980 MHz",),
    HealthState.STALE: ("no sample for 12 s: the driver does not answer",),
    HealthState.LOST: ("lost: fell off the bus",),
}
SMALL = ModelShape(134_515_008, 30, 2 * 30 * 3 * 64, 8192)
LARGE = ModelShape(8_030_261_248, 32, 2 * 32 * 8 * 128, 131_072)
CAPPED = (ThrottleActivity(ThrottleReason.POWER_CAP, active=True, duty=0.8),)


def device_status(
    name: str,
    *,
    free: float | None = 130 * GIB,
    health: HealthState = HealthState.OK,
    inference: bool = True,
    load: float | None = 0.0,
    last: LastRequest | None = None,
    dtypes: tuple[str, ...] = ("fp32", "fp16", "bf16"),
    compute: str | None = "9.0",
    limit_w: float | None = 700.0,
    watts: float | None = 100.0,
    margin: float | None = 40.0,
    bandwidth: float | None = None,
    throttle: tuple[ThrottleActivity, ...] = (),
    clock_hz: float = 1.98e9,
) -> DeviceStatus:
    """The status of a device whose kind is the first part of its *name*."""
    kind = DeviceKind(name.rstrip("0123456789"))
    device = Device(
        f"fake:{name}",
        kind,
        "Fake",
        name,
        "fake",
        name,
        capabilities=Capabilities(compute, dtypes, 132, inference),
        limits=Limits(power_w=limit_w, clock_hz=1.98e9, memory_bandwidth_bytes_per_s=bandwidth),
    )
    pools = () if free is None else (MemoryPool("hbm", int(max(free, 140 * GIB)), 0, int(free)),)
    numbers = {"utilization": load, "power_w": watts, "temperature_margin_c": margin, "clock_hz": clock_hz}
    readings: dict[str, Reading] = {
        metric: Absent.NOT_SUPPORTED if number is None else number for metric, number in numbers.items()
    }
    return DeviceStatus(device, readings, pools, throttle, Health(health, REASONS[health], NOW), NOW, 0.1, last)


def snapshot_of(*devices: DeviceStatus) -> Snapshot:
    """A snapshot of these devices."""
    return Snapshot(1, NOW, 1.0, devices)


def pace_of(
    ttft_s: float = 0.024, itl_s: float = 0.02, *, samples: int = 7, deviation: float = 0.08, joules: float | None = 3.0
) -> Pace:
    """A pace of *samples* answers with a relative *deviation*."""
    return Pace(
        samples,
        Average(ttft_s, ttft_s * deviation),
        Average(itl_s, itl_s * deviation),
        None,
        None if joules is None else Average(joules),
    )


def knowing(circumstances: dict[str, Circumstance] | None = None, shape: ModelShape | None = SMALL) -> Knowledge:
    """What is known of a model, with circumstances by the devices' ids."""
    return Knowledge("m", shape, {f"fake:{name}": item for name, item in (circumstances or {}).items()})


def times(low: float, high: float) -> st.SearchStrategy[float]:
    """Plausible seconds, joules or rates."""
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


lasts = st.none() | st.builds(
    LastRequest, st.sampled_from(["m", "n"]), st.just(NOW), st.none() | times(0, 100), st.none() | times(0, 1e4)
)
activities = st.lists(
    st.builds(ThrottleActivity, st.sampled_from(ThrottleReason), st.booleans(), st.none() | st.floats(0, 1), st.none()),
    max_size=3,
    unique_by=lambda item: item.reason,
).map(tuple)
statuses = st.builds(
    device_status,
    st.builds("{}{}".format, st.sampled_from(["gpu", "cpu", "npu", "other"]), st.integers(0, 12)),
    free=st.none() | st.integers(0, 2000 * GIB),
    health=st.sampled_from(HealthState),
    inference=st.booleans(),
    load=st.none() | st.floats(0, 1),
    last=lasts,
    dtypes=st.sampled_from([(), ("fp32",), ("fp32", "fp16"), ("fp32", "fp16", "bf16", "fp8")]),
    compute=st.sampled_from([None, "8.6", "8.9", "9.0", "12.1", "odd"]),
    limit_w=st.none() | times(1, 2000),
    watts=st.none() | times(0, 2000),
    margin=st.none() | times(-20, 90),
    bandwidth=st.none() | times(1e9, 1e13),
    throttle=activities,
    clock_hz=times(1e6, 2.5e9),
)
machines = st.lists(statuses, unique_by=lambda status: status.device.id, max_size=8)
_averages = st.none() | st.builds(Average, times(0, 100), times(0, 50))
circumstances = st.builds(
    Circumstance,
    pace=st.none() | st.builds(Pace, st.integers(1, 50), _averages, _averages, _averages, _averages),
    loaded=st.booleans(),
    running=st.integers(0, 5),
    waiting=st.integers(0, 40),
    limit=st.integers(1, 8),
    server=st.none() | st.just("llama"),
    barred=st.sampled_from(["", "3 failures in a row, last: out of memory; next try in 8 s"]),
)
knowledges = st.builds(
    lambda shape, found, model: Knowledge(model, shape, {f"fake:{name}": item for name, item in found.items()}),
    st.sampled_from([None, SMALL, LARGE]),
    st.dictionaries(
        st.builds("{}{}".format, st.sampled_from(["gpu", "cpu", "npu", "other"]), st.integers(0, 12)), circumstances
    ),
    st.sampled_from([None, "m"]),
)
requirements = st.builds(
    Requirements,
    min_memory_bytes=st.none() | st.integers(1, 2000 * GIB),
    features=st.lists(st.sampled_from(["fp16", "bf16", "fp8", "cc8.9", "cc9.0"]), max_size=2, unique=True).map(tuple),
    max_power_w=st.none() | times(1, 2000),
    max_latency_s=st.none() | times(0.001, 200),
    kinds=st.lists(st.sampled_from(DeviceKind), max_size=2, unique=True).map(tuple),
    prefer_low_power=st.booleans(),
    policy=st.sampled_from(Policy),
    context_tokens=st.none() | st.integers(1, 200_000),
)
