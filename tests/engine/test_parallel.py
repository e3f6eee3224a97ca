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
import json, os, sys, time
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
print(json.dumps([list(found.values()), ready.model.choices, decoder.kind]), flush=True)
os._exit(0)  # as a worker ends: threads of the process group do not live through the interpreter's end
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
    assert "EngineError: gpt_oss cannot be spread over several devices" in errors  # a follower may log after it


_FOLLOWER = """
import sys
from hwdash.core.errors import DeviceFull
from hwdash.engine.worker import follower
from hwdash.engine.worker.eager import EagerDecoder

open, advance, left = EagerDecoder.open, EagerDecoder.advance, [3]

def opened(self, prompt, limit, sampling):
    if len(prompt) == 77:
        raise DeviceFull("the second device has no room")
    return open(self, prompt, limit, sampling)

def advanced(self):
    left[0] -= len(self._open) > 1
    if not left[0]:
        raise RuntimeError("a fault of the second device")
    return advance(self)

EagerDecoder.open, EagerDecoder.advance = opened, advanced
follower.main()
"""
_NO_ROOM = (
    f"FOLLOWER = {_FOLLOWER!r}\n"
    """
import json, sys
from hwdash.core.errors import DeviceFull
from hwdash.engine.message import Load
from hwdash.engine.worker import follower
from hwdash.engine.worker.decoder import BeyondRepair, Sampling
from hwdash.engine.worker.start import start

if int(sys.argv[2]) > 1:
    follower.child_command = lambda _, descriptor: [sys.executable, "-c", FOLLOWER, descriptor]
load = Load(sys.argv[1], "a model", "cpu", "fp32", threads=1, synthetic=True, slots=4, ranks=int(sys.argv[2]))
model, decoder, ready = start(load, 0.0, lambda detail, share: None)
try:
    decoder.close(decoder.open([1] * 77, 9, Sampling()))
except DeviceFull as error:
    print(error.message)
numbers = [decoder.open(prompt, 12, Sampling()) for prompt in ([5, 6, 7], [8])]
for number in numbers:
    while not decoder.read(number):
        pass
print(json.dumps([made.token for _ in range(2) for made in decoder.advance()]), flush=True)
decoder.close(99)
if int(sys.argv[2]) > 1:
    try:
        decoder.advance()
        decoder.advance()
    except BeyondRepair as error:
        print(error.message, flush=True)
    for number in numbers:
        decoder.close(number)
    import time; time.sleep(120)
"""
)


def test_where_one_device_has_no_room_no_device_takes_it_and_all_go_on(tmp_path: Path) -> None:
    config = json.dumps(config_of("llama", initializer_range=0.2).to_dict())
    path = tmp_path / "config.json"
    path.write_text(config)
    alone, together = (
        subprocess.run(
            [sys.executable, "-c", _NO_ROOM, str(path), ranks], capture_output=True, text=True, timeout=240, check=False
        )
        for ranks in ("1", "2")
    )
    assert alone.returncode == 0, alone.stderr[-2000:]
    full, tokens = together.stdout.splitlines()[:2]
    assert full == "the second device has no room"
    assert [tokens] == alone.stdout.splitlines()
    assert len(json.loads(tokens)) == 4
    assert together.returncode == 70  # a follower that fails in a step ends all
    assert "a fault of the second device" in together.stderr


class Lost:
    """Followers that are gone."""

    def tell(self, name: str, *arguments: object) -> None:
        from hwdash.engine.worker.decoder import BeyondRepair

        raise BeyondRepair("gone")


def test_letting_go_of_a_sequence_fails_nobody() -> None:
    from hwdash.engine.worker.decoder import BeyondRepair, Sampling
    from hwdash.engine.worker.eager import EagerDecoder
    from hwdash.engine.worker.extract import extract
    from hwdash.engine.worker.failure import is_beyond_repair
    from hwdash.engine.worker.follower import LeadingDecoder

    decoder = EagerDecoder(extract(model_of("llama")), 2)
    number = decoder.open([1], 3, Sampling())
    leading = LeadingDecoder(decoder, Lost())  # type: ignore[arg-type]
    leading.close(number)
    with pytest.raises(BeyondRepair) as caught:
        leading.advance()
    assert is_beyond_repair(caught.value)


class Silent(Lost):
    """Followers that do as they are told."""

    def tell(self, name: str, *arguments: object) -> None:
        """It is done."""


def test_a_step_that_fails_for_the_leader_alone_is_beyond_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    from hwdash.core.errors import DeviceFull
    from hwdash.engine.worker.decoder import BeyondRepair, SequenceFailed
    from hwdash.engine.worker.eager import EagerDecoder
    from hwdash.engine.worker.extract import extract
    from hwdash.engine.worker.follower import LeadingDecoder

    def failing(_: EagerDecoder) -> None:
        raise SequenceFailed(1) from DeviceFull("4 GiB are missing")

    monkeypatch.setattr(EagerDecoder, "advance", failing)
    leading = LeadingDecoder(EagerDecoder(extract(model_of("llama")), 2), Silent())  # type: ignore[arg-type]
    with pytest.raises(BeyondRepair, match="4 GiB are missing"):
        leading.advance()
