"""Devices, stores and engines for the tests of this room."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hwdash.core.config import EngineConfig
from hwdash.core.device import Capabilities, Device, DeviceKind
from hwdash.engine.models import ModelStore
from hwdash.engine.supervisor import WorkerEngine
from tests.engine.script import Scene

if TYPE_CHECKING:
    from tests.engine.desk import Desk

CPU = Device(
    key="host:cpu",
    kind=DeviceKind.CPU,
    vendor="Test",
    name="Test CPU",
    source="host",
    id="cpu0",
    capabilities=Capabilities(dtypes=("fp32",), compute_units=1, inference=True),
)

MakeEngine = Callable[..., WorkerEngine]


@pytest.fixture
async def make_engine(tmp_path: Path) -> AsyncIterator[MakeEngine]:
    """Builds engines over an empty store; all are closed after the test."""
    engines: list[WorkerEngine] = []

    def make(root: Path | None = None, **settings: float) -> WorkerEngine:
        config = EngineConfig(**settings)  # type: ignore[arg-type]
        engines.append(WorkerEngine(ModelStore(root or tmp_path / "models"), config, tmp_path / "logs"))
        return engines[-1]

    yield make
    for engine in engines:
        await engine.close()


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A device of scripted workers."""
    built = Scene(tmp_path, monkeypatch)
    yield built
    await built.close()


@pytest.fixture(scope="session")
def desk(tiny_model: Path) -> Desk:
    """A worker's inner parts over the tiny model, in this process."""
    from tests.engine.desk import Desk

    return Desk(tiny_model)


@pytest.fixture
def broken_model(tiny_model: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies the tiny model; the argument names the file to leave out."""

    def copy(without: str = "") -> Path:
        target = tmp_path / "broken"
        shutil.copytree(tiny_model, target)
        if without:
            (target / without).unlink()
        return target

    return copy
