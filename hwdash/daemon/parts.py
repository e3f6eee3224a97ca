"""What a daemon is made of besides its own rooms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwdash.engine.engine import Engine
    from hwdash.engine.models import ModelStore
    from hwdash.sources.source import Source


@dataclass(frozen=True, slots=True)
class Parts:
    """What to put in the place of this machine's own sources, engine and models; None keeps the real one."""

    sources: Sequence[Source] | None = None
    engine: Engine | None = None
    models: ModelStore | None = None
