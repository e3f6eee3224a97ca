"""A model store without files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from hwdash.core.errors import UnknownModel
from hwdash.core.model import ModelInfo, PullProgress

MODEL = "echo"


class FakeModels:
    """A model store with the model `MODEL` that needs no files."""

    def __init__(self) -> None:
        self.names = [MODEL]
        self.pull_closed = False

    def list(self) -> tuple[ModelInfo, ...]:
        return tuple(ModelInfo(name, f"/models/{name}", 1, ready=True) for name in self.names)

    def resolve(self, name: str) -> Path:
        if name not in self.names:
            raise UnknownModel(f"model {name!r} is not on this machine", param="model")
        return Path("/models") / name

    async def pull(self, name: str) -> AsyncGenerator[PullProgress, None]:
        if name == "org/none":
            raise UnknownModel(f"no model {name!r}")
        try:
            yield PullProgress("fetching", 0.5)
            if name == "org/endless":
                await asyncio.Event().wait()
            self.names.append(name)
            yield PullProgress("done", 1.0, ModelInfo(name, f"/models/{name}", 1, ready=True))
        finally:
            self.pull_closed = True

    def remove(self, name: str) -> None:
        if name not in self.names:
            raise UnknownModel(f"no model {name!r}")
        self.names.remove(name)
