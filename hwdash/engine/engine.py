"""The seam between the daemon and whatever computes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from hwdash.core.device import Device
from hwdash.core.inference import EngineEvent, PromptRequest
from hwdash.core.status import WorkerStatus


class Engine(Protocol):
    """Something that answers prompts on a device, such as the embedded workers."""

    def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent, None]:
        """Answer *request* on *device*, whatever ``request.device`` says: stages, tokens, then one `Generation`.

        Closing the iterator (or cancelling the task that drives it) cancels the generation within one token and
        frees the device. Raises `UnknownModel`, `ModelError`, `Overloaded`, `EngineError` and its kinds.
        """
        ...

    async def check(self, model: str, device: Device) -> None:
        """Raise what `generate` is sure to raise for *model* on *device*, before anything was started for it.

        That is `UnknownModel`, `ModelError` or `EngineError`. Costs nothing where the model is loaded.
        """
        ...

    async def prewarm(self, model: str, device: Device) -> None:
        """Load *model* on *device* so that the next prompt finds it there. Raises as `generate` does."""
        ...

    def workers(self) -> Sequence[WorkerStatus]:
        """Every worker there is or was asked for, in a fixed order."""
        ...

    async def close(self) -> None:
        """End all workers within half a second, killing what does not end by itself."""
        ...
