"""A machine on which everything is to be seen: partitions, a suspect, a sleeper, a fault, programs, narrow links."""

from __future__ import annotations

from dataclasses import replace

from hwdash.core.device import Limits, MemoryPool
from hwdash.core.health import Health, HealthState, SuspicionKind
from hwdash.core.process import DeviceProcess
from hwdash.core.ranking import ExcludedDevice, RankedDevice, Ranking
from hwdash.core.reading import Absent
from hwdash.core.sample import Fault
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from tests.tui.sample import GIB, START, cpu, gpu, snapshot_of, status


def _busy() -> DeviceStatus:
    limits = replace(gpu(0).limits, pcie_link_generation=5, pcie_link_width=16)
    busy = status(
        replace(gpu(0), limits=limits, firmware="96.00.A5.00.01"),
        state=HealthState.THROTTLED,
        reasons=("power cap 38 s of the last 60 s: clock 1395 of 1980 MHz", "1 row waits for a reset"),
        throttle=(
            ThrottleActivity(ThrottleReason.POWER_CAP, True, 0.63, seconds=3412.0),
            ThrottleActivity(ThrottleReason.THERMAL_SW, False, 0.0, seconds=12.0),
            ThrottleActivity(ThrottleReason.SYNC_BOOST, False, 0.0, seconds=0.0),
        ),
    )
    return replace(
        busy,
        readings=dict(busy.readings)
        | {
            "memory_bandwidth_utilization": 0.71,
            "tensor_utilization": 0.38,
            "sm_utilization": 0.9,
            "memory_temperature_c": 71.0,
            "pcie_link_generation": 4.0,
            "pcie_link_width": 8.0,
            "pcie_rx_bytes_per_s": 1.2e9,
            "pcie_tx_bytes_per_s": 3.4e8,
            "nvlink_rx_bytes_per_s": 4.5e10,
            "nvlink_tx_bytes_per_s": 4.4e10,
            "ecc_uncorrected_total": 0.0,
            "ecc_corrected_total": 3.0,
            "remapped_rows_total": 1.0,
        },
        faults=(Fault("row_remap_pending", "1 row waits for a reset"),),
        processes=tuple(
            DeviceProcess(4000 + n, name="python train.py", user="ann", memory_bytes=n * GIB) for n in (60, 4)
        ),
    )


def _partitioned() -> tuple[DeviceStatus, ...]:
    whole = replace(status(gpu(1), utilization=Absent.NOT_SUPPORTED, memory=0.4), processes=Absent.NO_PERMISSION)
    parts = [
        status(
            replace(gpu(1), id=f"gpu1.{n}", key=f"nvidia:MIG-{n}", name="NVIDIA H200 MIG 3g.71gb", parent=gpu(1).key),
            total=71 * GIB,
            utilization=0.3 * n,
        )
        for n in (1, 2)
    ]
    return whole, *parts


def _suspect() -> DeviceStatus:
    return replace(
        status(gpu(2), clock=1410e6),
        health=Health(
            HealthState.THROTTLED,
            ("suspected: clock 1410 MHz while busy, usually 1965 MHz",),
            START,
            suspected=True,
            suspicions=(SuspicionKind.CLOCK,),
        ),
    )


def _sleeper() -> DeviceStatus:
    sleeper = replace(
        status(replace(gpu(3, "AMD Radeon Pro W7900"), vendor="AMD", source="amdgpu", limits=Limits(241.0)))
    )
    asleep = dict.fromkeys(
        ("utilization", "power_w", "temperature_c", "clock_hz", "memory_used_bytes"), Absent.SUSPENDED
    )
    return replace(sleeper, readings=asleep, pools=(), health=Health(HealthState.OK, ("asleep",), START))


def _host() -> DeviceStatus:
    nodes = tuple(MemoryPool(f"node{n}", 251 * GIB, 90 * GIB, 161 * GIB, numa_node=n) for n in (0, 1))
    return replace(status(replace(cpu(), spans_pools=True), utilization=0.12), pools=nodes)


def full_machine() -> Snapshot:
    """Seven rows, in the order of a ranking."""
    ranking = Ranking(
        "balanced",
        {},
        tuple(
            RankedDevice(name, score, {}, (why,))
            for name, score, why in (
                ("gpu1.1", 0.81, "42.6 GiB free"),
                ("gpu1.2", 0.74, "42.6 GiB free"),
                ("gpu2", 0.55, "suspected of throttling"),
                ("gpu0", 0.31, "throttled: power cap"),
                ("cpu0", 0.1, "a CPU"),
            )
        ),
        (ExcludedDevice("gpu1", ("its partitions compute",)), ExcludedDevice("gpu3", ("asleep",))),
    )
    return snapshot_of(_busy(), *_partitioned(), _suspect(), _sleeper(), _host(), order=ranking)
