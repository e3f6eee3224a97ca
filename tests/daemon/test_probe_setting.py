"""What a probe's answer depends on: with each of it the setting changes, and with nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hwdash.core.status import WorkerState, WorkerStatus
from hwdash.daemon.probe_setting import ProbeSettings
from hwdash.sources.fake import fake_gpu

WORKER = WorkerStatus(
    "gpu0", "m", WorkerState.READY, 7, decoder="graph", choices=("kernels took over after 23 s: 12% faster", "sdpa")
)


async def test_the_setting_says_how_the_answer_is_computed(tmp_path: Path) -> None:
    settings, gpu = ProbeSettings(lambda _: tmp_path, 16), fake_gpu(0, driver="570")
    pair = replace(gpu, members=(fake_gpu(0), fake_gpu(1)))
    changed = [
        (gpu, replace(WORKER, decoder="eager")),
        (gpu, replace(WORKER, choices=("kernels are not used", "sdpa"))),
        (gpu, replace(WORKER, choices=("kernels took over after 23 s: 12% faster",))),
        (pair, WORKER),
        (gpu, None),
    ]
    same = replace(WORKER, pid=8, running=3, choices=("kernels took over after 9 s: 8.5% faster", "sdpa"))
    before = await settings.text(gpu, "m", None, WORKER)
    assert "graph over 1, choices " in before
    assert await settings.text(gpu, "m", None, same) == before
    texts = [await settings.text(device, "m", None, worker) for device, worker in changed]
    assert len({before, *texts}) == 6
    server = await settings.text(gpu, "m", "s", WORKER)
    assert server == await settings.text(gpu, "m", "s", None)
