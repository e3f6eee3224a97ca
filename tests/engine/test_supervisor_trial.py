"""Precisions tried by an idle worker, which is scripted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from hwdash.core.errors import EngineError, WorkerDied
from hwdash.core.trial import DtypeSpeed
from tests.engine.script import DEVICE, ENDLESS, Scene, ask, drained, said
from tests.engine.waiting import eventually


async def test_the_worker_of_a_loaded_model_tries_what_the_device_claims(scene: Scene) -> None:
    engine = scene.engine()
    device = replace(DEVICE, driver="570")
    assert await engine.trial("tries", device) is None  # nothing is started for it
    assert engine.workers() == ()
    await engine.prewarm("tries", device)
    trial = await engine.trial("tries", device)
    assert trial is not None
    assert (trial.device_key, trial.driver, trial.torch) == (DEVICE.key, "570", "9.9")
    assert trial.speeds == (DtypeSpeed("fp32", 1.0), DtypeSpeed("fp32", 0.5, True), DtypeSpeed("fp16", 0.5, True))


async def test_a_busy_worker_is_not_asked(scene: Scene) -> None:
    engine = scene.engine()
    await engine.prewarm("tries", DEVICE)
    answer = asyncio.create_task(drained(engine.generate(ask("hello", ENDLESS, "tries"), DEVICE)))
    await eventually(lambda: engine.standing("tries", DEVICE).running == 1)
    assert await engine.trial("tries", DEVICE) is None
    answer.cancel()


async def test_a_trial_that_is_not_wanted_any_more_is_called_off(scene: Scene, tmp_path: Path) -> None:
    engine = scene.engine()
    await engine.prewarm("one", DEVICE)
    trial = asyncio.create_task(engine.trial("one", DEVICE))
    await asyncio.sleep(0)
    trial.cancel()
    await eventually(lambda: bool(list(tmp_path.rglob("*.cancelled"))))
    assert await said(engine, ask("hello", 2)) == "hello hello "


async def test_a_worker_that_tells_nothing_or_dies(scene: Scene) -> None:
    engine = scene.engine(hang_s=0.2)
    await engine.prewarm("one", DEVICE)
    with pytest.raises(EngineError, match=r"cpu0 did not try its precisions within 0\.2 s"):
        await engine.trial("one", DEVICE)
    await engine.prewarm("dies", DEVICE)
    with pytest.raises(WorkerDied):
        await engine.trial("dies", DEVICE)
