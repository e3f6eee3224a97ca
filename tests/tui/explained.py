"""A ranking with everything that can be said of a device, under two policies."""

from __future__ import annotations

from dataclasses import replace

from hwdash.core.ranking import ExcludedDevice, Expectation, RankedDevice, Ranking
from hwdash.core.requirement import Policy
from hwdash.core.snapshot import Snapshot
from tests.tui.sample import mixed_snapshot, ranking

MEASURED = Expectation(0.0182, 312.4, 0.412, wait_s=0.2, joules_per_token=0.192, measured=True, samples=12, spread=0.08)
ESTIMATED = Expectation(0.0671, 87.2, 4.3, cold_start_s=3.2)
PARTS = {
    "latency": 0.94,
    "throughput": 1.0,
    "headroom": 0.81,
    "throttle": 1.0,
    "load": 0.55,
    "memory": 0.8,
    "energy": 0.37,
    "power": 0.08,
}
WEIGHTS = {
    "latency": 0.35,
    "throughput": 0.2,
    "throttle": 0.11,
    "headroom": 0.1,
    "load": 0.1,
    "memory": 0.05,
    "energy": 0.09,
    "power": 0.0,
}
REASONS = (
    "TTFT 18.2 ms, 312 tok/s over 12 answers ±8 %",
    "64 tokens in 412 ms with 200 ms of waiting",
    "41 °C to slowdown, 311 W of 700 W",
    "42% busy; 1 running and 0 waiting, 4 at once",
    "0.19 J a token",
    "113 GiB free, the model is loaded",
)


ESTIMATED_REASONS = (
    "estimated: 67.1 ms to first token, 87.2 tok/s (0.27 GB at 3.4 TB/s, 30 layers)",
    "64 tokens in 4.30 s with 3.20 s of cold start",
    *REASONS[2:4],
    "113 GiB free, the model needs 1.37 GiB",
)
UNKNOWN_REASONS = ("never measured with this model; its speed is not known", *REASONS[2:4])
TOLD = ((MEASURED, REASONS), *[(ESTIMATED, ESTIMATED_REASONS)] * 4, (None, UNKNOWN_REASONS))


def explained(policy: Policy = Policy.BALANCED) -> Ranking:
    """The order of `sample.ranking`, told in full; for throughput gpu3 is the first."""
    order = [
        RankedDevice(item.device, item.score, {name: part * item.score for name, part in PARTS.items()}, why, expected)
        for item, (expected, why) in zip(ranking().ranked, TOLD, strict=True)
    ]  # fmt: skip
    if policy is Policy.THROUGHPUT:
        order.insert(0, order.pop(3))
    left_out = (
        ExcludedDevice("gpu5", ("stale: no sample for 12 s",)),
        ExcludedDevice("gpu6", ("lost: the device is gone", "needs 40.0 GiB, 21.3 GiB free in its largest pool")),
    )
    return Ranking(policy.value, {}, tuple(order), left_out, WEIGHTS)


def explained_snapshot(sequence: int = 1) -> Snapshot:
    """The eight devices with that ranking."""
    return replace(mixed_snapshot(sequence), ranking=explained())
