"""A worker process that is killed before its first token: another device answers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from hwdash.core.config import EngineConfig
from hwdash.core.device import Capabilities, DeviceKind, Limits
from hwdash.core.inference import FinishedEvent, FinishReason, InferenceRecord, Stage, StageEvent
from hwdash.engine.models import ModelStore
from hwdash.engine.supervisor import WorkerEngine
from hwdash.sources.fake import FakeSource, fake_gpu
from tests.daemon.living import ask_for, living


def cpus() -> FakeSource:
    capabilities = Capabilities(dtypes=("fp32",), compute_units=1, inference=True)
    return FakeSource(
        [fake_gpu(n, kind=DeviceKind.CPU, capabilities=capabilities, limits=Limits(power_w=100.0)) for n in range(2)]
    )


async def test_the_next_device_answers_when_the_worker_is_killed(tmp_path: Path, tiny_model: Path) -> None:
    engine = WorkerEngine(ModelStore(tmp_path / "models"), EngineConfig(), tmp_path / "logs")
    seen: list[InferenceRecord] = []
    async with living(cpus(), engine) as daemon:
        daemon.service.observers.append(seen.append)
        killed = ""
        stages = []
        async for event in daemon.client.prompt(ask_for(model=str(tiny_model), max_tokens=4)):
            workers = {worker.device: worker.pid for worker in daemon.service.status().workers}
            if not killed and isinstance(event, StageEvent) and (pid := workers.get(event.device)) is not None:
                killed = event.device
                os.kill(pid, signal.SIGKILL)
            if isinstance(event, StageEvent):
                stages.append(event)
        assert isinstance(event, FinishedEvent)
        record = event.record
        assert killed
        assert record.device != killed
        assert record.finish_reason is FinishReason.LENGTH
        assert record.route.fallback_from == killed
        assert any(f"{killed} failed:" in why and "SIGKILL" in why for why in record.route.why)
        (handed,) = [stage for stage in stages if stage.detail.endswith(f"trying {record.device}")]
        assert (handed.stage, handed.device) == (Stage.STARTING, record.device)
        assert [(item.device, item.finish_reason) for item in seen] == [
            (killed, FinishReason.ERROR),
            (record.device, FinishReason.LENGTH),
        ]
