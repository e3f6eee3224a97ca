"""Fetching from a Hub: a small one of our own stands in for it."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwdash.core.errors import ModelError
from hwdash.engine.models import ModelStore

REVISION = "0123456789abcdef0123456789abcdef01234567"
Files = dict[str, bytes]


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub's API as a download uses; ``models`` maps names to their files."""

    models: dict[str, Files]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        if path.startswith("api/models/"):
            name, _, rest = path.removeprefix("api/models/").partition("/tree/")
            name = name.partition("/revision/")[0]
            if name not in self.models:
                self.answer(
                    404 if name != "org/gated" else 403,
                    b"{}",
                    {"X-Error-Code": "RepoNotFound" if name != "org/gated" else "GatedRepo"},
                )
            else:
                files = self.models[name]
                sizes = [{"type": "file", "path": path, "oid": "0", "size": len(data)} for path, data in files.items()]
                siblings = [{"rfilename": path, "size": len(data)} for path, data in files.items()]
                about = {"id": name, "sha": REVISION, "siblings": siblings, "cardData": {"license": "mit"}, "tags": []}
                self.answer(200, json.dumps(sizes if rest else about).encode(), {"Content-Type": "application/json"})
            return
        name, _, rest = path.partition(f"/resolve/{REVISION}/")
        data = self.models.get(name, {}).get(rest)
        if data is None:
            self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        else:
            self.answer(200, data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": REVISION})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    safe = {path.name: path.read_bytes() for path in tiny_model.iterdir() if path.name != "greedy.json"}
    extras = {"pytorch_model.bin": b"pickle", "modeling.py": b"code", "onnx/model.safetensors": b"other"}
    models: dict[str, Files] = {
        "org/safe": safe | extras,
        "org/pickled": {"config.json": b"{}", "pytorch_model.bin": b"x"},
    }
    handler = type("Handler", (_Hub,), {"models": models})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("NO_PROXY", "*")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield
        server.shutdown()


@pytest.mark.usefixtures("hub")
async def test_a_hub_model_comes_without_code_and_pickles(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    steps = [step async for step in store.pull("org/safe")]
    assert steps[-1].done is not None
    assert (steps[-1].done.name, steps[-1].done.license, steps[-1].done.ready) == ("org/safe", "mit", True)
    place = store.resolve("org/safe")
    names = {path.name for path in place.rglob("*")}
    assert "model.safetensors" in names
    assert not names & {"pytorch_model.bin", "modeling.py", "onnx", ".cache"}
    store.remove("org/safe")


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("name", "expected"),
    [("org/absent", "no such model"), ("org/pickled", "pickles only"), ("org/gated", "asks for permission")],
)
async def test_what_the_hub_cannot_give(tmp_path: Path, name: str, expected: str) -> None:
    with pytest.raises(ModelError, match=f"cannot fetch {name}: .*{expected}"):
        async for _ in ModelStore(tmp_path).pull(name):
            pass
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


async def test_no_network_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(ModelError, match=r"cannot fetch org/name: http://127\.0\.0\.1:9: .*check the network"):
        async for _ in ModelStore(tmp_path).pull("org/name"):
            pass
