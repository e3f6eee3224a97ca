"""A daemon that plays a recording: what stands in the place of hardware, engine and models, and where it lives."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import tempfile
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hwdash.core.config import Config
from hwdash.core.device import Device
from hwdash.core.errors import EngineError, ModelError, UnknownModel
from hwdash.core.inference import EngineEvent, PromptRequest, StageEvent
from hwdash.core.measurement import MeasurePlan, MeasureReport
from hwdash.core.model import ModelInfo, ModelShape, PullProgress
from hwdash.core.paths import Paths
from hwdash.core.recording import Header, RecordingError
from hwdash.core.replay import ReplayRequest
from hwdash.core.status import WorkerStatus
from hwdash.core.text import sanitise_line
from hwdash.core.trial import DeviceTrial
from hwdash.daemon.parts import Parts, Playback
from hwdash.engine.catalogue import catalogue_shape
from hwdash.engine.engine import Standing
from hwdash.sources.replay import replay_sources
from hwdash.sources.replay_clock import ReplayClock
from hwdash.sources.replay_file import check_recording
from hwdash.sources.replay_player import Player
from hwdash.sources.replay_recording import Recording

log = logging.getLogger(__name__)

ASKED_EVERY_TICK = {"rescan_s": 0.0, "lost_retry_s": 0.0}
"""How a monitor shows what comes and goes in a recording at the recorded time: asking costs nothing."""

_LOAD_S = 5.0
"""A recording that takes longer to read is played while its rest is still being read."""
_LOOK_S = 0.1


def check_playback(playback: Playback) -> Header:
    """The header of the recording. Raises `RecordingError` for a file that is none, `UsageError` for a bad speed or
    place. Blocks, briefly: no more than the first lines are read."""
    header = check_recording(playback.path)
    Player.check(ReplayRequest(seek_s=playback.from_s, speed=playback.speed))
    return header


@contextlib.contextmanager
def private_home(paths: Paths) -> Iterator[Paths]:
    """*paths* with state and socket in a new directory for this process alone, which is deleted at the end.

    Nothing that is played gets into the user's own history, and no daemon that watches hardware is in the way.
    """
    place = Path(tempfile.mkdtemp(prefix="hwdash-replay-"))
    try:
        yield replace(paths, state=place, runtime=place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Replay:
    """A recording that is ready to be played."""

    recording: Recording
    clock: ReplayClock
    player: Player

    @classmethod
    async def open(cls, playback: Playback) -> Replay:
        """Read the recording. Raises `RecordingError` when it is none or has a mistake.

        Of a recording that takes more than five seconds to read, a mistake further on ends it there instead; the place
        where it is to begin is read in any case, as far as there is one.
        """
        recording = await asyncio.to_thread(Recording, playback.path)
        loading = asyncio.get_running_loop().run_in_executor(None, recording.load)
        try:
            await asyncio.wait((loading,), timeout=_LOAD_S)
            while not loading.done() and (not recording.count or recording.duration_s < playback.from_s):
                await asyncio.wait((loading,), timeout=_LOOK_S)
        except BaseException:
            recording.close()
            raise
        if loading.done():
            loading.result()
        else:
            loading.add_done_callback(_loaded)
        if recording.problem:
            log.warning("%s", recording.problem)
        clock = ReplayClock(recording, speed=playback.speed)
        return cls(recording, clock, Player(recording, clock, loop=playback.loop, from_s=playback.from_s))

    @property
    def parts(self) -> Parts:
        """What stands in the place of the machine."""
        return Parts(replay_sources(self.recording, self.clock), RefusingEngine(), NoModels())

    def adapt(self, config: Config) -> Config:
        """*config* with the recorded interval, and no model to load."""
        return replace(
            config,
            monitor=replace(config.monitor, interval_s=self.recording.header.interval_s),
            engine=replace(config.engine, prewarm=()),
        )


class RefusingEngine:
    """The `hwdash.engine.engine.Engine` of devices that are not there: no prompt is answered."""

    async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent, None]:
        """Raises `EngineError`."""
        raise _refusal(device)
        yield  # type: ignore[unreachable]  # what makes it a generator

    async def check(self, model: str, device: Device) -> None:
        """Raises `EngineError`."""
        raise _refusal(device)

    async def prewarm(self, model: str, device: Device) -> None:
        """Raises `EngineError`."""
        raise _refusal(device)

    def measure(self, plan: MeasurePlan, device: Device) -> AsyncGenerator[StageEvent | MeasureReport, None]:
        """Raises `EngineError`."""
        raise _refusal(device)

    async def trial(self, model: str, device: Device) -> DeviceTrial | None:
        """None: there is no device."""
        return None

    def standing(self, model: str, device: Device) -> Standing:
        """As if it could answer: what is asked is which device would."""
        return Standing()

    async def shape(self, model: str) -> ModelShape | None:
        """That of a built-in model, so that recorded devices can be ranked for it."""
        return catalogue_shape(model)

    def served(self) -> Sequence[str]:
        """None."""
        return ()

    def workers(self) -> Sequence[WorkerStatus]:
        """None."""
        return ()

    async def close(self) -> None:
        """Nothing to end."""


class NoModels:
    """The `hwdash.daemon.parts.Models` of a replay: empty."""

    def list(self) -> tuple[ModelInfo, ...]:
        """None."""
        return ()

    def resolve(self, name: str) -> Path:
        """Raises `UnknownModel`."""
        raise UnknownModel(f"a replay has no model {sanitise_line(name, 100)!r}", param="model")

    async def pull(self, name: str) -> AsyncGenerator[PullProgress, None]:
        """Raises `ModelError`."""
        raise ModelError("a replay has no models; fetch them without --replay", param="model")
        yield  # type: ignore[unreachable]  # what makes it a generator

    def remove(self, name: str) -> None:
        """Raises `ModelError`."""
        raise ModelError("a replay has no models; remove them without --replay", param="model")


def _refusal(device: Device) -> EngineError:
    return EngineError(f"{device.id} is a recording; a prompt needs the real device: leave out --replay")


def _loaded(loading: asyncio.Future[None]) -> None:
    if not loading.cancelled() and (error := loading.exception()) is not None:
        words = error.message if isinstance(error, RecordingError) else repr(error)
        log.warning("the recording ends early: %s", words)
