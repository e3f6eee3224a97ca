"""Snapshots with everything in them, and what a page of metrics says, read by the parsers of prometheus_client."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from hwdash.core.device import Device, MemoryPool
from hwdash.core.health import Health, HealthState
from hwdash.core.inference import (
    Conditions,
    Energy,
    FinishReason,
    InferenceRecord,
    Route,
    Timing,
    TokenCounts,
    TokenEvent,
)
from hwdash.core.metric import BOUNDS, METRICS
from hwdash.core.probe import ProbeOutcome, ProbeResult
from hwdash.core.ranking import RankedDevice, Ranking
from hwdash.core.requirement import Policy
from hwdash.core.snapshot import DeviceStatus, Snapshot, SourceStatus
from hwdash.core.status import AdmissionStatus
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.daemon.metric_device import fill_build, fill_devices, fill_queues, fill_scores
from hwdash.daemon.metric_page import Page, render
from hwdash.daemon.metric_probe import fill_probes
from hwdash.daemon.metric_tally import Tally
from hwdash.sources.fake import GIB, fake_gpu

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def full_status(index: int = 0, state: HealthState = HealthState.OK, *, pools: bool = True) -> DeviceStatus:
    """A device that has every reading, and every reason to throttle."""
    device: Device = fake_gpu(index, id=f"gpu{index}", firmware="2.0", parent="fake:parent")
    readings = {name: BOUNDS[metric.unit][1] / 2 for name, metric in METRICS.items()}
    throttle = tuple(ThrottleActivity(reason, False, 0.25, None, 12.5) for reason in ThrottleReason)
    memory = (MemoryPool("hbm", 140 * GIB, 20 * GIB, 119 * GIB), MemoryPool("host", GIB, 0, GIB, shared=True))
    return DeviceStatus(device, readings, memory if pools else (), throttle, Health(state, (), NOW), NOW, 0.1)


def full_snapshot(count: int = 2) -> Snapshot:
    """Devices of all healths that have numbers, the second of which has no pools."""
    devices = tuple(full_status(index, pools=index != 1) for index in range(count))
    return Snapshot(1, NOW, 1.0, devices, (SourceStatus("fake", count, 0.004),))


def record(**changes: object) -> InferenceRecord:
    """An answer of the first device."""
    fields: dict[str, object] = {
        "id": "1",
        "started_at": NOW,
        "model": "org/tiny",
        "device": "gpu0",
        "device_key": "fake:gpu-0",
        "route": Route("auto"),
        "tokens": TokenCounts(12, 3),
        "timing": Timing(queue_s=0.0, ttft_s=0.020, total_s=0.5, tokens_per_s=20.0),
        "conditions": Conditions(),
        "finish_reason": FinishReason.STOP,
        "energy": Energy(30.0, "device", 10.0),
    }
    return InferenceRecord(**(fields | changes))  # type: ignore[arg-type]


def tokens(*elapsed: float) -> list[TokenEvent]:
    return [TokenEvent("x", number, at) for number, at in enumerate(elapsed, start=1)]


def full_tally() -> Tally:
    """Two answers, one of them after another device had failed."""
    tally = Tally({"gpu1": "fake:gpu-1"}.__getitem__)
    follow = tally.follow("fake:gpu-0", "org/tiny")
    for token in tokens(0.020, 0.030, 0.044):
        follow(token)
    tally.add(record())
    tally.add(record(device="gpu1", device_key="fake:gpu-1", finish_reason=FinishReason.ERROR, energy=None))
    tally.add(record(route=Route("auto", (), "gpu1")))
    return tally


def full_page(count: int = 2) -> Page:
    """A page with every family."""
    page = Page()
    snapshot = full_snapshot(count)
    fill_build(page)
    full_tally().fill(page)
    rankings = [
        Ranking(policy.value, {}, tuple(RankedDevice(item.device.id, 0.5, {}, ()) for item in snapshot.devices), ())
        for policy in Policy
    ]
    fill_scores(page, snapshot, rankings)
    fill_queues(page, snapshot, (AdmissionStatus("gpu0", 1, 2, 4),))
    fill_devices(page, snapshot)
    newest = ProbeResult(
        snapshot.taken_at, "gpu0", snapshot.devices[0].device.key, "tiny", ProbeOutcome.OK, 0.02, 0.01, 0.2, 16
    )
    fill_probes(page, [(newest, 0.05)])
    return page


def plain(page: Page) -> str:
    return render(page, openmetrics=False, zipped=False).decode()


def openmetrics(page: Page) -> str:
    return render(page, openmetrics=True, zipped=False).decode()


def read_plain(text: str) -> list[Metric]:
    return list(parse_plain(text))


def read_openmetrics(text: str) -> list[Metric]:
    return list(parse_openmetrics(text))


def series(metrics: Iterable[Metric]) -> Series:
    """Every sample by its name and its labels; no two have the same."""
    found: Series = {}
    for metric in metrics:
        for sample in metric.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found
