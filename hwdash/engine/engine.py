"""The seam between the daemon and whatever computes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hwdash.core.device import Device
from hwdash.core.inference import EngineEvent, PromptRequest, StageEvent
from hwdash.core.measurement import MeasurePlan, MeasureReport
from hwdash.core.model import ModelShape
from hwdash.core.status import WorkerStatus
from hwdash.core.trial import DeviceTrial


@dataclass(frozen=True, slots=True)
class Standing:
    """How an engine stands to one model on one device, right now.

    ``loaded``: an answer needs no cold start. ``running`` and ``waiting`` are the requests it has there. ``slots`` is
    how many it answers at once. ``server`` names the external server that answers there, None for a worker of our
    own. ``problem`` is why it could not answer at all, in words; empty when it can.
    """

    loaded: bool = False
    running: int = 0
    waiting: int = 0
    slots: int = 1
    server: str | None = None
    problem: str = ""


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

    def measure(self, plan: MeasurePlan, device: Device) -> AsyncGenerator[StageEvent | MeasureReport, None]:
        """Run *plan* in a worker of its own: stages, one `LoadedModel`, then the `TaskReport` of every task in order.

        The worker ends when the iterator is closed, whatever it is doing then. Idle workers make room for it where the
        memory is needed. Raises as `generate` does, and `EngineError` where no worker of our own drives the device.
        """
        ...

    async def trial(self, model: str, device: Device) -> DeviceTrial | None:
        """Try the precisions of *device* in its idle worker for *model*, which takes a second at most; any request ends it.

        None where no such worker is idle, or it was broken off. Raises `EngineError` and its kinds.
        """
        ...

    def standing(self, model: str, device: Device) -> Standing:
        """How it stands to *model* on *device*, from what is known: no file is read, nobody is asked."""
        ...

    async def shape(self, model: str) -> ModelShape | None:
        """What *model* needs, by its own metadata; None where it is not on this machine or does not tell."""
        ...

    def served(self) -> Sequence[str]:
        """Names of the models that external servers offer, besides those of the store."""
        ...

    def workers(self) -> Sequence[WorkerStatus]:
        """Every worker there is or was asked for, in a fixed order."""
        ...

    async def close(self) -> None:
        """End all workers within half a second, killing what does not end by itself."""
        ...
