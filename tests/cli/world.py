"""Two GPUs and a CPU, how they rank, and a client whose devices answer or fail each in its own way."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime

from hwdash.client.fake import FakeClient
from hwdash.core.config import DEFAULT_MODEL
from hwdash.core.errors import HwdashError, UnknownModel
from hwdash.core.health import Health, HealthState
from hwdash.core.inference import (
    Conditions,
    FinishedEvent,
    FinishReason,
    InferenceRecord,
    PromptEvent,
    PromptRequest,
    Route,
    Stage,
    StageEvent,
    Timing,
    TokenCounts,
    TokenEvent,
)
from hwdash.core.ranking import ExcludedDevice, Expectation, RankedDevice, Ranking
from hwdash.core.requirement import NO_REQUIREMENTS, Policy, Requirements, requirements_to_wire
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.core.status import AdmissionStatus, BreakerState, DaemonStatus, WorkerStatus
from hwdash.sources.fake import fake_gpu, fake_readings

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
MEASURED = Expectation(0.0182, 312.4, 0.4, joules_per_token=0.192, measured=True, samples=12, spread=0.08)
RANKED = (
    RankedDevice(
        "gpu1", 0.912, {"latency": 0.95, "room_for_more": 1.0, "idle": 0.5}, ("140 GiB free", "nothing runs"), MEASURED
    ),
    RankedDevice("gpu0", 0.5, {"latency": 0.4}, ("throttled: power cap",), Expectation(0.09, 41.0)),
)
EXCLUDED = (ExcludedDevice("gpu2", ("lost: off the bus", "needs 40.0 GiB, 21.3 GiB free")),)


def status(index: int) -> DeviceStatus:
    health = Health(HealthState.OK, (), NOW)
    return DeviceStatus(fake_gpu(index, id=f"gpu{index}"), fake_readings(), (), (), health, NOW, 0.1)


def record(device: str, fallback_from: str | None = None) -> InferenceRecord:
    why = ("best of 2 devices",) if fallback_from is None else (f"{fallback_from} failed: out of memory",)
    return InferenceRecord(
        "r1", NOW, "m", device, f"fake:{device}", Route("auto", why, fallback_from), TokenCounts(3, 2),
        Timing(0.0, None, 0.042, 0.02, 0.03, 0.5, 41.5), Conditions(), FinishReason.STOP,
    )  # fmt: skip


class World(FakeClient):
    """``answers`` are the events of each device, ``failures`` what it fails with after them."""

    def __init__(self, default_model: str = "m") -> None:
        ranking = Ranking("balanced", {}, RANKED, EXCLUDED, {"latency": 0.35, "idle": 0.0})
        devices = tuple(status(index) for index in range(3))
        super().__init__([Snapshot(1, NOW, 1.0, devices, (), ranking)])
        self.default_model = default_model
        self.models_there = {"m", DEFAULT_MODEL}
        self.answers: dict[str, list[PromptEvent]] = {
            name: [StageEvent(Stage.QUEUED, name), TokenEvent(f"I am {name}.", 2, 0.04), FinishedEvent(record(name))]
            for name in ("gpu0", "gpu1")
        }
        self.failures: dict[str, HwdashError] = {}
        self.admission: tuple[AdmissionStatus, ...] = ()
        self.workers: tuple[WorkerStatus, ...] = ()
        self.listen: str | None = None

    async def status(self) -> DaemonStatus:
        return replace(
            await super().status(),
            default_model=self.default_model,
            admission=self.admission,
            workers=self.workers,
            listen=self.listen,
        )

    async def rank(self, requirements: Requirements = NO_REQUIREMENTS) -> Ranking:
        if requirements.model not in (None, *self.models_there):
            raise UnknownModel(f"no model {requirements.model!r}")
        ranking = await super().rank(requirements)
        if requirements.model is None and self.default_model in self.models_there:
            requirements = replace(requirements, model=self.default_model)
        policy = requirements.policy.value
        return replace(ranking, policy=policy, requirements=requirements_to_wire(requirements))

    async def prompt(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        self.requests.append(request)
        for event in self.answers.get(request.device, self.answer):
            yield event
        if (failure := self.failures.get(request.device, self.failure)) is not None:
            raise failure


def nobody(client: FakeClient) -> None:
    """No device suits any more."""
    client.rankings = {policy: Ranking(policy, {}, (), EXCLUDED) for policy in Policy}


BUSY = (
    AdmissionStatus("gpu0", 1, 3, 1, "hot: 1 at once instead of 4", BreakerState.HALF_OPEN, "out of memory 12 s ago"),
    AdmissionStatus("gpu1", verdicts=("this torch build has no kernels for sm_90",)),
)
