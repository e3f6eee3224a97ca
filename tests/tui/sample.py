"""Snapshots for the dashboard's tests and pictures: eight devices in mixed states, all with fixed times."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hwdash.core.device import Capabilities, Device, DeviceKind, Limits, MemoryPool
from hwdash.core.health import Health, HealthState
from hwdash.core.ranking import ExcludedDevice, RankedDevice, Ranking
from hwdash.core.reading import Absent, Reading
from hwdash.core.snapshot import DeviceStatus, LastRequest, Snapshot
from hwdash.core.throttle import ThrottleActivity, ThrottleReason

START = datetime(2026, 1, 15, 3, 12, 45, tzinfo=UTC)
GIB = 1024**3


def gpu(index: int, name: str = "NVIDIA H200") -> Device:
    return Device(
        key=f"nvidia:GPU-{index:08x}-0000-4000-8000-000000000000",
        id=f"gpu{index}",
        kind=DeviceKind.GPU,
        vendor="NVIDIA",
        name=name,
        source="nvml",
        driver="580.159.04",
        pci=f"00000000:{index + 0x1A:02X}:00.0",
        capabilities=Capabilities("9.0", ("fp32", "fp16", "bf16", "fp8"), 132, inference=True),
        limits=Limits(700.0, 89.0, 95.0, 105.0, 1980e6),
    )


def cpu() -> Device:
    return Device(
        key="host:cpu",
        id="cpu0",
        kind=DeviceKind.CPU,
        vendor="Intel",
        name="Intel(R) Xeon(R) Platinum 8480+",
        source="host",
        capabilities=Capabilities(None, ("fp32", "bf16", "int8"), 56, inference=True),
        limits=Limits(clock_hz=3800e6),
    )


def status(
    device: Device,
    *,
    utilization: Reading = 0.87,
    memory: float = 0.5,
    temperature: Reading = 54.0,
    power: Reading = 512.0,
    clock: Reading = 1980e6,
    state: HealthState = HealthState.OK,
    reasons: tuple[str, ...] = (),
    throttle: tuple[ThrottleActivity, ...] = (),
    age_s: float | None = 0.4,
    last: LastRequest | None = None,
    total: int = 140 * GIB,
) -> DeviceStatus:
    used = int(total * memory)
    slowdown = device.limits.temperature_slowdown_c
    margin: Reading = Absent.NOT_SUPPORTED
    if slowdown is not None:
        margin = temperature if isinstance(temperature, Absent) else slowdown - temperature
    return DeviceStatus(
        device=device,
        readings={
            "utilization": utilization,
            "memory_used_bytes": float(used),
            "memory_total_bytes": float(total),
            "temperature_c": temperature,
            "temperature_margin_c": margin,
            "power_w": power,
            "clock_hz": clock,
            "fan_ratio": Absent.NOT_SUPPORTED,
        },
        pools=(MemoryPool("hbm" if device.kind is DeviceKind.GPU else "ram", total, used, total - used),),
        throttle=throttle,
        health=Health(state, reasons, START - timedelta(seconds=38)),
        sampled_at=None if age_s is None else START - timedelta(seconds=age_s),
        age_s=age_s,
        last_request=last,
    )


def lost(device: Device) -> DeviceStatus:
    """A device that fell off the bus."""
    gone = dict.fromkeys(
        ("utilization", "memory_used_bytes", "temperature_c", "temperature_margin_c", "power_w", "clock_hz"),
        Absent.DEVICE_LOST,
    )
    return DeviceStatus(
        device, gone, (), (), Health(HealthState.LOST, ("the driver says that the device is gone",), START), START, 42.0
    )


POWER_CAP = ThrottleActivity(ThrottleReason.POWER_CAP, True, 1.0)
THERMAL = ThrottleActivity(ThrottleReason.THERMAL_SW, True, 0.62)


def mixed_devices() -> tuple[DeviceStatus, ...]:
    """Seven GPUs and the CPU: busy, idle, warm, throttled twice, stale, lost, and one that tells little."""
    last = LastRequest("smollm2-135m-instruct", START - timedelta(seconds=20), 0.0182, 312.4)
    return (
        status(gpu(0), utilization=0.42, memory=0.19, temperature=48.0, power=311.0, last=last),
        status(gpu(1), utilization=0.0, memory=0.0, temperature=31.0, power=78.0, clock=345e6),
        status(
            gpu(2), temperature=82.0, power=655.0, state=HealthState.WARM, reasons=("7 °C left to slowdown at 89 °C",)
        ),
        status(
            gpu(3),
            utilization=1.0,
            memory=0.93,
            power=699.0,
            clock=1395e6,
            state=HealthState.THROTTLED,
            reasons=("power cap for 38 s: clock 1395 of 1980 MHz",),
            throttle=(POWER_CAP,),
            last=replace(last, ttft_s=0.0671, tokens_per_s=87.2),
        ),
        status(
            gpu(4),
            utilization=0.98,
            memory=0.71,
            temperature=91.0,
            power=540.0,
            clock=1110e6,
            state=HealthState.THROTTLED,
            reasons=("thermal slowdown for 2 min 5 s: clock 1110 of 1980 MHz", "91 °C, slowdown at 89 °C"),
            throttle=(THERMAL,),
        ),
        status(gpu(5), state=HealthState.STALE, reasons=("no sample for 12 s: the driver does not answer",), age_s=12),
        lost(gpu(6)),
        status(
            cpu(),
            utilization=0.12,
            memory=0.31,
            temperature=Absent.NOT_SUPPORTED,
            power=Absent.NO_PERMISSION,
            clock=3100e6,
            total=503 * GIB,
        ),
    )


def ranking() -> Ranking:
    """An order of `mixed_devices`."""
    return Ranking(
        "balanced",
        {},
        (
            RankedDevice("gpu1", 0.94, {"memory": 1.0, "latency": 0.9}, ("140 GiB free", "no latency measured yet")),
            RankedDevice("gpu0", 0.91, {"memory": 0.8, "latency": 1.0}, ("113 GiB free", "TTFT 18.2 ms")),
            RankedDevice("gpu2", 0.64, {"memory": 0.5, "latency": 0.7}, ("70.0 GiB free", "warm: 7 °C left")),
            RankedDevice("gpu3", 0.31, {"memory": 0.1, "latency": 0.4}, ("9.80 GiB free", "throttled: power cap")),
            RankedDevice("gpu4", 0.28, {"memory": 0.3, "latency": 0.2}, ("40.6 GiB free", "throttled: thermal")),
            RankedDevice("cpu0", 0.12, {"memory": 0.7, "latency": 0.0}, ("347 GiB free", "a CPU")),
        ),
        (
            ExcludedDevice("gpu5", ("stale: no sample for 12 s",)),
            ExcludedDevice("gpu6", ("lost: the device is gone",)),
        ),
    )


def mixed_snapshot(sequence: int = 1) -> Snapshot:
    """The eight devices at a fixed time; *sequence* moves the time by seconds and nothing else."""
    return Snapshot(sequence, START + timedelta(seconds=sequence - 1), 1.0, mixed_devices(), (), ranking())


def snapshot_of(*devices: DeviceStatus, sequence: int = 1, order: Ranking | None = None) -> Snapshot:
    """A snapshot of just these devices."""
    return Snapshot(sequence, START + timedelta(seconds=sequence - 1), 1.0, devices, (), order)
