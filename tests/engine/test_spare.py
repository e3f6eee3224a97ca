"""A spare worker: taken by the next model, replaced, told of its device late enough, never in anybody's way."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from hwdash.core.errors import WorkerDied
from hwdash.core.measurement import Load, MeasurePlan, Task
from hwdash.engine import process, spare
from hwdash.engine.placement import early_environment
from hwdash.engine.spare import Spare
from hwdash.engine.supervisor import WorkerEngine
from tests.engine.conftest import CPU, MakeEngine
from tests.engine.script import DEVICE, Scene, ask, drained, pid_of, said, worker
from tests.engine.waiting import eventually


async def _with_spare(engine: WorkerEngine) -> int:
    """Its pid, once it is ready."""
    engine.spare.keep(0)
    await eventually(lambda: engine.spare.ready)
    pid = engine.spare.pid
    assert pid is not None
    return pid


@pytest.fixture
async def alone(scene: Scene, tmp_path: Path) -> AsyncIterator[Spare]:
    """A spare of nobody's engine, among whose workers somebody is never busy."""
    kept = Spare(tmp_path / "logs", lambda: False)
    yield kept
    await kept.close()


async def test_the_next_model_gets_the_spare_and_another_one_follows(scene: Scene) -> None:
    engine = scene.engine()
    first = await _with_spare(engine)
    assert await said(engine, ask("hello")) == "hello hello hello "
    assert pid_of(engine) == first
    await eventually(lambda: engine.spare.ready and engine.spare.pid != first)
    second = engine.spare.pid
    assert await said(engine, ask("more", model="two")) == "more more more "
    assert pid_of(engine, "two") == second


async def test_it_is_told_what_shows_its_device(scene: Scene) -> None:
    engine = scene.engine()
    await _with_spare(engine)
    await said(engine, ask("hello"))
    assert scene.load_of("one").environment["CUDA_VISIBLE_DEVICES"] == ""


async def test_errors_name_the_file_that_has_its_lines(scene: Scene, tmp_path: Path) -> None:
    engine = scene.engine()
    await _with_spare(engine)
    log = tmp_path / "logs" / "worker-cpu0-one.log"
    with pytest.raises(WorkerDied, match=re.escape(str(log))):
        await said(engine, ask("die"))
    assert log.read_text() == "loading one\n"


async def test_one_that_is_killed_before_it_says_a_word_leaves_its_lines_where_they_are(
    scene: Scene, tmp_path: Path
) -> None:
    engine = scene.engine()
    os.kill(await _with_spare(engine), signal.SIGSTOP)
    answer = asyncio.create_task(said(engine, ask("hello")))
    await eventually(lambda: bool(engine.workers()) and worker(engine).pid is not None)
    os.kill(pid_of(engine), signal.SIGKILL)
    with pytest.raises(WorkerDied, match=r"worker-spare\.log"):
        await answer


@pytest.mark.parametrize("prepared", [True, False])
async def test_one_that_is_stopped_is_replaced_by_a_fresh_process(scene: Scene, prepared: bool) -> None:
    engine = scene.engine(hang_s=1.0)
    stopped = await _with_spare(engine)
    process = engine.spare._process
    assert process is not None
    process.prepared = prepared
    os.kill(stopped, signal.SIGSTOP)
    async with asyncio.timeout(20):
        assert await said(engine, ask("hello")) == "hello hello hello "
    assert pid_of(engine) != stopped
    await eventually(lambda: not Path(f"/proc/{stopped}").exists())


async def test_a_measurement_is_a_true_cold_start(scene: Scene) -> None:
    engine = scene.engine()
    first = await _with_spare(engine)
    plan = MeasurePlan("one", (Task(Load.COPY, repeats=1),))
    await drained(engine.measure(plan, DEVICE))
    assert engine.spare.pid == first


async def test_it_ends_with_its_engine(scene: Scene) -> None:
    engine = scene.engine()
    pid = await _with_spare(engine)
    await engine.close()
    assert engine.spare.pid is None
    assert not Path(f"/proc/{pid}").exists()


async def test_one_that_was_killed_is_not_taken_and_is_replaced(alone: Spare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "_FIRST_BACK_OFF_S", 0.01)
    alone.keep(0)
    await eventually(lambda: alone.ready)
    pid = alone.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not alone.ready)
    assert alone.take({}) is None
    await eventually(lambda: alone.ready)
    assert alone.pid != pid


async def test_those_that_die_at_once_are_started_ever_later(
    alone: Spare, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spare, "_FIRST_BACK_OFF_S", 0.01)
    monkeypatch.setattr(process, "child_command", lambda *_: [sys.executable, "-c", "raise SystemExit('no torch')"])
    caplog.set_level(logging.WARNING, "hwdash.engine.spare")
    alone.keep(0)
    await eventually(lambda: len(caplog.messages) >= 3)
    for message, delay in zip(caplog.messages, ("0.01", "0.02", "0.04"), strict=False):
        assert "ended with exit code 1 (no torch)" in message
        assert message.endswith(f"the next one starts in {delay} s")


async def test_none_is_started_while_a_model_is_loaded(alone: Spare) -> None:
    with alone.held_back():
        alone.keep(0)
        await asyncio.sleep(0.3)
        assert alone.pid is None
    await eventually(lambda: alone.ready)


async def test_only_variables_that_are_read_late_are_told(alone: Spare) -> None:
    alone.keep(0)
    await eventually(lambda: alone.ready)
    assert alone.take({"ACME_VISIBLE_CHIPS": "3"}) is None
    assert alone.take({"GOMP_SPINCOUNT": "77"}) is None
    taken = alone.take({"CUDA_VISIBLE_DEVICES": "GPU-1", **early_environment()})
    assert taken is not None
    assert alone.take({}) is None
    await taken.end(1)


async def test_a_real_spare_answers_as_any_worker_does(make_engine: MakeEngine, tiny_model: Path) -> None:
    engine = make_engine(tiny_model.parent)
    pid = await _with_spare(engine)
    request = replace(ask("hello", 5, str(tiny_model)), temperature=0.0)
    taken = await said(engine, request, CPU)
    assert pid_of(engine, str(tiny_model)) == pid
    other = make_engine(tiny_model.parent)
    assert await said(other, request, CPU) == taken


_WATCHED = """
import importlib, sys, torch
def touched(*_, **__):
    raise SystemExit("a device was touched")
torch.cuda.is_available = torch.cuda.device_count = torch.cuda._lazy_init = touched
torch.cuda.get_device_properties = torch.cuda.current_device = touched
torch.xpu.is_available = torch.xpu._lazy_init = torch.accelerator.current_accelerator = touched
for name in ("_cuda_getDeviceCount", "_cuda_init", "_xpu_getDeviceCount"):
    setattr(torch._C, name, touched)
from hwdash.engine.worker.session import _import_all
_import_all()
assert "hwdash.engine.worker.graph" in sys.modules
assert not torch.cuda.is_initialized()
"""


def test_importing_all_that_a_worker_needs_touches_no_device() -> None:
    ended = subprocess.run([sys.executable, "-c", _WATCHED], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
