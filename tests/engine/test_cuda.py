"""Workers on a CUDA device: the very device that was named, in the precision that it has."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hwdash.core.config import EngineConfig
from hwdash.core.device import Capabilities, Device, DeviceKind
from hwdash.core.errors import DeviceFull
from hwdash.core.inference import Generation, Message, PromptRequest, TokenEvent
from hwdash.core.text import sanitise
from hwdash.engine.models import ModelStore
from hwdash.engine.supervisor import WorkerEngine
from tests.tiny_model import GREEDY_PROMPT, GREEDY_TOKENS

pytestmark = pytest.mark.gpu


def device(*dtypes: str) -> Device:
    listed = subprocess.run(
        ["nvidia-smi", "--query-gpu=uuid,name", "--format=csv,noheader"], capture_output=True, text=True, check=True
    )
    uuid, name = listed.stdout.splitlines()[-1].split(", ", 1)
    capabilities = Capabilities(dtypes=dtypes, inference=True)
    return Device(
        f"nvidia:{uuid}", DeviceKind.GPU, "NVIDIA", name, "nvml", "gpu0", capabilities=capabilities, visible_as=uuid
    )


def used_mib(gpu: Device) -> int:
    """Memory in use on the device; in a container the list of its processes can be empty."""
    listed = subprocess.run(
        ["nvidia-smi", f"--id={gpu.visible_as}", "--query-gpu=memory.used", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(listed.stdout)


async def test_the_named_device_answers_and_is_let_go(tiny_model: Path, tmp_path: Path) -> None:
    expected = json.loads((tiny_model / "greedy.json").read_text())
    engine = WorkerEngine(ModelStore(tmp_path), EngineConfig(), tmp_path)
    gpu = device("fp32")
    before = used_mib(gpu)
    try:
        request = PromptRequest((Message("user", GREEDY_PROMPT),), str(tiny_model), max_tokens=GREEDY_TOKENS)
        events = [event async for event in engine.generate(request, gpu)]
        text = "".join(event.text for event in events if isinstance(event, TokenEvent))
        # fp32 on the GPU sums in another order: the first tokens are the same, later ones may part.
        assert text[:6] == sanitise(expected["text"])[:6]
        assert used_mib(gpu) > before + 100
    finally:
        await engine.close()
    async with asyncio.timeout(10):
        while used_mib(gpu) > before + 50:
            await asyncio.sleep(0.1)


FILLER = """
import sys, torch
left = int(sys.argv[1])
kept, size = [], 2**33
while size >= 2**21:  # a block of all that is free is refused: it is not in one piece
    try:
        while torch.cuda.mem_get_info()[0] - left >= size:
            kept.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
    except torch.OutOfMemoryError:
        pass
    size //= 2
print("full", flush=True)
sys.stdin.read()
"""


@contextmanager
def filled(gpu: Device, left_bytes: int) -> Iterator[None]:
    """Another program holds all but *left_bytes* of the device."""
    assert gpu.visible_as is not None
    with subprocess.Popen(
        [sys.executable, "-c", FILLER, str(left_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": gpu.visible_as},
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "full\n"
        try:
            yield
        finally:
            program.kill()


async def test_a_full_device_says_so_and_answers_once_there_is_room(tiny_model: Path, tmp_path: Path) -> None:
    engine = WorkerEngine(ModelStore(tmp_path), EngineConfig(), tmp_path)
    gpu = device("fp32")
    request = PromptRequest((Message("user", GREEDY_PROMPT),), str(tiny_model), max_tokens=4)
    try:
        for left in (2**22, 400 * 2**20):  # no room for a CUDA context; room for one at most
            with filled(gpu, left), pytest.raises(DeviceFull, match=r"memory|free"):
                async for _ in engine.generate(request, gpu):
                    pass
        events = [event async for event in engine.generate(request, gpu)]
        assert isinstance(events[-1], Generation)
    finally:
        await engine.close()


async def test_bf16_where_the_device_has_it(tiny_model: Path, tmp_path: Path) -> None:
    engine = WorkerEngine(ModelStore(tmp_path), EngineConfig(), tmp_path)
    try:
        request = PromptRequest(
            (Message("user", "x"),), str(tiny_model), max_tokens=4, temperature=0.8, top_p=0.9, seed=1
        )
        made = [event async for event in engine.generate(request, device("fp32", "fp16", "bf16"))][-1]
    finally:
        await engine.close()
    assert isinstance(made, Generation)
    assert made.dtype == "bf16"
    assert made.tokens.completion > 0
