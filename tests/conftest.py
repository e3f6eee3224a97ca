"""Fixtures that more than one room uses: models to run."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwdash.core.config import DEFAULT_MODEL

REPOSITORY = Path(__file__).parent.parent


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file lock *path*, so that one of several test processes does the work."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint directory: a Llama with random weights that loads at once. Read only; copy it to change it."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tiny-model"
    with _locked(directory.with_suffix(".lock")):
        if not (directory / "greedy.json").exists():
            subprocess.run([sys.executable, "-m", "tests.tiny_model", str(directory)], check=True, cwd=REPOSITORY)
    return directory


async def _pull(root: Path) -> None:
    from hwdash.engine.models import ModelStore

    async for _ in ModelStore(root).pull(DEFAULT_MODEL):
        pass


@pytest.fixture(scope="session")
def default_model_root() -> Path:
    """The root of a model store that holds the default model; downloaded once per checkout.

    ``HWDASH_TEST_MODELS`` names another place for it.
    """
    from hwdash.engine.models import ModelStore

    root = Path(os.environ.get("HWDASH_TEST_MODELS") or REPOSITORY / ".cache" / "models")
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / "test.lock"):
        if not any(model.name == DEFAULT_MODEL and model.ready for model in ModelStore(root).list()):
            asyncio.run(_pull(root))
    return root
