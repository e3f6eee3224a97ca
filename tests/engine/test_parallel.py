"""A model over several devices: the same tokens as on one, by processes that meet; plans that do not fit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engine.family import config_of, model_of

_RUN = """
import json, sys, time
from hwdash.engine.message import Load
from hwdash.engine.worker.decoder import Sampling
from hwdash.engine.worker.start import start

load = Load(sys.argv[1], sys.argv[2], "cpu", "fp32", threads=1, synthetic=sys.argv[4] == "drawn", slots=2, ranks=int(sys.argv[3]))
model, decoder, ready = start(load, 0.0, lambda detail, share: None)
numbers = [decoder.open(prompt, 12, Sampling(temperature, 0.9, 5)) for prompt, temperature in (([5, 6, 7] * 50, 0.0), ([9], 0.8))]
found = {number: [] for number in numbers}
for number in numbers:
    while not decoder.read(number):
        pass
while min(map(len, found.values())) < 12:
    for made in decoder.advance():
        found[made.number].append(made.token)
print(json.dumps([list(found.values()), ready.model.choices, decoder.kind]))
"""


def run(path: Path, ranks: int, kind: str) -> tuple[Any, list[str], str]:
    command = [sys.executable, "-c", _RUN, str(path), "a model", str(ranks), kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    tokens, choices, name = json.loads(done.stdout.splitlines()[-1])
    return tokens, choices, name


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_two_devices_make_the_tokens_of_one(family: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config_of(family, initializer_range=0.2).to_dict()))
    (alone, _, _), (together, choices, kind) = run(path, 1, "drawn"), run(path, 2, "drawn")
    assert together == alone
    assert kind == "eager"
    assert any("2 devices" in words for words in choices)


def test_a_plan_must_fit(tmp_path: Path) -> None:
    from hwdash.core.errors import EngineError
    from hwdash.engine.worker.parallel import Group, Plan

    with pytest.raises(EngineError, match="over 3 devices: it has 8 heads"):
        Plan(model_of("llama"), Group(0, 3))
    with pytest.raises(EngineError, match="over 4 devices: it has 2 key-value heads"):
        Plan(model_of("llama"), Group(0, 4))
    with pytest.raises(
        EngineError, match="gpt_oss cannot be spread over several devices: its plan says nothing of q_proj"
    ):
        Plan(model_of("gpt-oss"), Group(0, 2))


def test_parts_are_cut_by_the_library_s_plan() -> None:
    import torch

    from hwdash.engine.worker.parallel import Group, Plan

    model = model_of("llama-tied-biased")
    parts = [Plan(model, Group(rank, 2)) for rank in (0, 1)]
    named = dict(model.named_parameters())
    for name, dim in (("q_proj.weight", 0), ("k_proj.bias", 0), ("o_proj.weight", 1)):
        whole = named[f"model.layers.2.self_attn.{name}"]
        halves = [plan.part(f"model.layers.2.self_attn.{name}", whole) for plan in parts]
        assert torch.equal(torch.cat(halves, dim=dim), whole)
    bias = named["model.layers.2.self_attn.o_proj.bias"]
    assert torch.equal(sum(plan.part("model.layers.2.self_attn.o_proj.bias", bias) for plan in parts), bias)
    norm = named["model.norm.weight"]
    assert all(plan.part("model.norm.weight", norm) is norm for plan in parts)


_BEGIN = """
import os, sys, tempfile
from hwdash.engine.message import Load
from hwdash.engine.worker.start import start

load = Load(sys.argv[1], "a model", "cpu", "fp32", threads=1, synthetic=True, slots=1, ranks=2)
model, decoder, ready = start(load, 0.0, lambda detail, share: None)
print(os.listdir(tempfile.gettempdir()), flush=True)
"""
_WAIT = _BEGIN + "import time; time.sleep(120)"


def begin(script: str, config: dict[str, Any], directory: Path) -> subprocess.Popen[str]:
    path = directory / "config.json"
    path.write_text(json.dumps(config))
    (directory / "temp").mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(directory / "temp")},
    )


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_leader_ends_with_its_follower_and_leaves_no_meeting_behind(tmp_path: Path) -> None:
    with begin(_WAIT, config_of("llama").to_dict(), tmp_path) as leader:
        try:
            assert leader.stdout is not None
            assert "hwdash" not in leader.stdout.readline()  # all have met
            (follower,) = children_of(leader.pid)
            os.kill(follower, signal.SIGKILL)
            _, errors = leader.communicate(timeout=60)
        finally:
            leader.kill()
    assert leader.returncode == 70
    assert f"process {follower}, which drives one of the model's devices, has ended with -9" in errors


def test_what_cannot_be_spread_is_the_leader_s_own_error(tmp_path: Path) -> None:
    with begin(_BEGIN, config_of("gpt-oss").to_dict(), tmp_path) as leader:
        _, errors = leader.communicate(timeout=120)
    assert leader.returncode == 1
    assert "EngineError: gpt_oss cannot be spread over several devices" in errors.splitlines()[-1]
