"""Weights in 8 bits that are kept beside a stored model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwdash.engine.manifest import MANIFEST, write_manifest
from hwdash.engine.message import Load

NAME = "weights.8bit"


@pytest.fixture
def stored(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model as the store has it."""
    from hwdash.engine.worker.quantized import available

    if not available():
        pytest.skip("no weights are held in 8 bits here")
    target = tmp_path / "model"
    shutil.copytree(tiny_model, target)
    write_manifest(target, "tiny", "here", "none", "1")
    return target


def _first_token(directory: Path) -> tuple[int, Any]:
    """The most likely token after a prompt, with the decoder after its idle time."""
    from hwdash.engine.worker.decoder import Sampling
    from hwdash.engine.worker.loading import load_model
    from hwdash.engine.worker.quantized import _keeper
    from hwdash.engine.worker.selection import choose_decoder

    load = Load(str(directory), "tiny", "cpu", "fp32", threads=1, quantize=True)
    decoder = choose_decoder(load_model(load, lambda *_: None), load)
    decoder.open([5, 9, 17, 33], 1, Sampling())
    decoder.read(1)
    token = decoder.advance()[0].token
    decoder.close(1)
    decoder.idle()
    _keeper().submit(int).result()  # it works in order
    return token, decoder


def _made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Fills with the shapes of the weights that are quantized."""
    from hwdash.engine.worker import quantized

    seen: list[tuple[int, ...]] = []
    make = quantized._quantized

    def counted(weight: Any, block: int) -> Any:
        seen.append(tuple(weight.shape))
        return make(weight, block)

    monkeypatch.setattr(quantized, "_quantized", counted)
    return seen


def test_the_second_start_makes_nothing_again(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _made(monkeypatch)
    first, decoder = _first_token(stored)
    assert seen
    assert any("8 bits" in choice for choice in decoder.choices)
    assert (stored / NAME).is_file()
    assert sorted(path.name for path in stored.iterdir() if path.name.startswith(".")) == []
    seen.clear()
    again, decoder = _first_token(stored)
    assert again == first
    assert seen == []
    assert any("8 bits" in choice for choice in decoder.choices)


def _touch(directory: Path) -> None:
    os.utime(directory / "model.safetensors", ns=(1, 1))


def _cut(directory: Path) -> None:
    os.truncate(directory / NAME, 100)


def _garble(directory: Path) -> None:
    (directory / NAME).write_bytes(b"\xff" * 1000)


def _empty(directory: Path) -> None:
    (directory / NAME).write_bytes(b"")


def _other(directory: Path) -> None:
    shutil.copy(directory / "model.safetensors", directory / NAME)


@pytest.mark.parametrize("change", [_touch, _cut, _garble, _empty, _other])
def test_what_does_not_belong_to_the_files_is_made_again(
    change: Callable[[Path], None], stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = _first_token(stored)
    change(stored)
    seen = _made(monkeypatch)
    again, _ = _first_token(stored)
    assert again == first
    assert seen
    seen.clear()
    _first_token(stored)
    assert seen == []


def test_directories_of_others_are_not_written_to(stored: Path) -> None:
    (stored / MANIFEST).unlink()
    before = sorted(stored.iterdir())
    _first_token(stored)
    assert sorted(stored.iterdir()) == before
