"""The engine that ships with hwdash: a worker process for every model on every device that was asked for."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

from hwdash.core.config import EngineConfig
from hwdash.core.device import Device
from hwdash.core.errors import EngineError, HwdashError
from hwdash.core.inference import EngineEvent, Generation, PromptRequest, StageEvent
from hwdash.core.measurement import MeasurePlan, MeasureReport
from hwdash.core.model import ModelShape
from hwdash.core.status import WorkerStatus
from hwdash.core.trial import DeviceTrial
from hwdash.engine.engine import Standing
from hwdash.engine.measurement import Measurement
from hwdash.engine.models import ModelStore
from hwdash.engine.placement import placement_of
from hwdash.engine.room import Room
from hwdash.engine.slot import Slot
from hwdash.engine.spare import Spare


class WorkerEngine:
    """A `hwdash.engine.engine.Engine` over worker processes. None exists until a prompt or `prewarm` asks for it.

    Each runs up to ``config.max_concurrent`` requests at once. Where a device is full, idle workers of it make room for
    the next; ``spare`` is told whether one waits for its model. A worker's output goes to a log in *log_dir*, whose name its errors carry.
    """

    def __init__(self, models: ModelStore, config: EngineConfig, log_dir: Path) -> None:
        self._models = models
        self._config = config
        self._log_dir = log_dir
        self._slots: dict[tuple[str, str], Slot] = {}
        self._rooms: dict[str, Room] = {}
        self._measurements: list[Measurement] = []
        self._numbers = itertools.count(1)
        self.spare = Spare(log_dir, self._is_busy)
        self._closed = False

    async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent, None]:
        """Answer *request* on *device*: stages, tokens, then one `Generation`.

        Closing the iterator cancels within one token. Raises `UnknownModel`, `ModelError`, `Overloaded`,
        `WorkerDied`, `DeviceFull`, `PromptTooLong` and `EngineError`.
        """
        arrived = time.monotonic()
        slot = self._slot(request.model, device)
        job = slot.enqueue(next(self._numbers), request, arrived)
        try:
            while True:
                event = await job.events.get()
                if isinstance(event, HwdashError):
                    raise event
                yield event
                if isinstance(event, Generation):
                    return
        finally:
            slot.withdraw(job)

    async def check(self, model: str, device: Device) -> None:
        """Raise for a device that no worker can drive and for a model that is unknown, damaged or unsafe."""
        slot = self._slots.get((device.key, model))
        if slot is None or not slot.was_used:
            placement_of(device)
            await asyncio.to_thread(self._models.resolve, model)

    async def prewarm(self, model: str, device: Device) -> None:
        """Load *model* on *device* so that the next prompt finds it there. Raises as `generate` does."""
        await self._slot(model, device).warm()

    async def measure(self, plan: MeasurePlan, device: Device) -> AsyncGenerator[StageEvent | MeasureReport, None]:
        """Run *plan* in a worker of its own, which is killed when the iterator is closed.

        Raises as `generate` does, and `UsageError` for a precision that *device* does not have.
        """
        self._check_open()
        measurement = Measurement(plan, device, self._models, self._config, self._log_dir, self._room(device))
        self._measurements.append(measurement)
        try:
            async with aclosing(measurement.reports()) as reports:
                async for report in reports:
                    yield report
        finally:
            self._measurements.remove(measurement)

    async def trial(self, model: str, device: Device) -> DeviceTrial | None:
        """The precisions of *device*, tried by its idle worker for *model*; None where that cannot be, or was broken off."""
        slot = self._slots.get((device.key, model))
        return None if slot is None else await slot.trial(next(self._numbers))

    def standing(self, model: str, device: Device) -> Standing:
        """How it stands to *model* on *device*; the problem is that of a device which no worker can drive."""
        slot = self._slots.get((device.key, model))
        if slot is not None and slot.was_used:
            return slot.standing()
        try:
            placement_of(device)
        except EngineError as error:
            return Standing(problem=error.message)
        return Standing(slots=self._config.max_concurrent)

    async def shape(self, model: str) -> ModelShape | None:
        """What *model* needs, from its checkpoint or the catalogue; None where neither tells."""
        return await asyncio.to_thread(self._models.shape, model)

    def served(self) -> Sequence[str]:
        """None: workers serve what the store has."""
        return ()

    def workers(self) -> Sequence[WorkerStatus]:
        """Every worker there is or was, by device and model, then those that measure."""
        slots = tuple(slot.status() for _, slot in sorted(self._slots.items()) if slot.was_used)
        return slots + tuple(measurement.status() for measurement in self._measurements)

    async def close(self) -> None:
        """End all workers within half a second; requests that run or wait fail."""
        self._closed = True
        await asyncio.gather(
            *(slot.close() for slot in self._slots.values()),
            *(measurement.close() for measurement in self._measurements),
            self.spare.close(),
        )

    def _is_busy(self) -> bool:
        return bool(self._measurements) or any(slot.is_busy for slot in self._slots.values())

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the daemon is shutting down; send the prompt again when it is back")

    def _room(self, device: Device) -> Room:
        """The room on *device*, which knows all places of it: of a group, those on any of its devices, too."""
        if (room := self._rooms.get(device.key)) is None:
            keys = _keys(device)
            room = Room(lambda: [slot for slot in self._slots.values() if not keys.isdisjoint(_keys(slot.device))])
            self._rooms[device.key] = room
        return room

    def _slot(self, model: str, device: Device) -> Slot:
        self._check_open()
        self._forget_mistakes()
        key = (device.key, model)
        if (slot := self._slots.get(key)) is None:
            room = self._room(device)
            slot = self._slots[key] = Slot(model, device, self._models, self._config, self._log_dir, room, self.spare)
        slot.device = device
        return slot

    def _forget_mistakes(self) -> None:
        """Drop the slots of models that never came to a worker, so that wrong names do not pile up."""
        for key in [key for key, slot in self._slots.items() if not slot.was_used]:
            del self._slots[key]


def _keys(device: Device) -> frozenset[str]:
    """The keys of the devices in whose memory a worker for *device* lies."""
    return frozenset(member.key for member in device.members or (device,))
