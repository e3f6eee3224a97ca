"""What a daemon is made of besides its own rooms."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hwdash.core.model import ModelInfo, PullProgress
from hwdash.core.replay import ReplayRequest, ReplayState
from hwdash.core.snapshot import Snapshot

if TYPE_CHECKING:
    from hwdash.engine.engine import Engine
    from hwdash.monitor.monitor import Monitor
    from hwdash.sources.source import Source


class Models(Protocol):
    """What the daemon needs of a model store (`hwdash.engine.models.ModelStore`). All but `pull` may block."""

    def list(self) -> tuple[ModelInfo, ...]:
        """Every model of the store."""
        ...

    def resolve(self, name: str) -> Path:
        """The directory of *name*, checked. Raises `UnknownModel` and `ModelError`."""
        ...

    def pull(self, name: str) -> AsyncGenerator[PullProgress, None]:
        """Fetch *name*; the last item carries the model. Raises `UnknownModel` and `ModelError`."""
        ...

    def remove(self, name: str) -> None:
        """Delete *name*. Raises `UnknownModel` and `ModelError`."""
        ...


class Player(Protocol):
    """A recording that is played in the place of hardware (`hwdash.sources.replay`). All calls are quick.

    ``on_jump`` is called at every jump, back or forward. ``travelling`` is true from then on until the place is
    reached: snapshots that come meanwhile are not of it.
    """

    on_jump: Callable[[], None]

    @property
    def travelling(self) -> bool:
        """It is on the way to the place that was jumped to."""
        ...

    @property
    def state(self) -> ReplayState:
        """Where it stands."""
        ...

    def apply(self, request: ReplayRequest) -> ReplayState:
        """Do what *request* asks for; gives the new state. Raises `UsageError` for what cannot be."""
        ...

    def attach(self, stage: Monitor) -> None:
        """Steer *stage* from now on. To be called before its first snapshot is made."""
        ...

    async def close(self) -> None:
        """Break off a jump that is under way. To be called before the monitor is stopped."""
        ...

    def follow(self, snapshot: Snapshot) -> Snapshot:
        """*snapshot*, just made, with the state of the replay and what else the recording has of it; time moves on."""
        ...


@dataclass(frozen=True, slots=True)
class Playback:
    """A recording to play: the file, recorded seconds per second, whether it begins anew at its end, and where."""

    path: Path
    speed: float = 1.0
    loop: bool = False
    from_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What to put in the place of this machine's own sources, engine and models; None keeps the real one.

    *playback* puts a recording in the place of all three.
    """

    sources: Sequence[Source] | None = None
    engine: Engine | None = None
    models: Models | None = None
    playback: Playback | None = None
