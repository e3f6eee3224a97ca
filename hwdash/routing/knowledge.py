"""What is known besides the snapshot: how devices did before, what runs on them now, what keeps requests away. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from hwdash.core.model import ModelShape
from hwdash.routing.pace import Pace


@dataclass(frozen=True, slots=True)
class Circumstance:
    """What holds for one device and the model in question.

    ``pace`` is how it did with this model before, None when it never did. ``loaded``: no cold start is needed.
    ``running`` and ``waiting`` are the requests on it now, of this model or of any, whichever holds the next one up;
    ``limit`` is how many of them may run at once and ``limit_why`` what lowered that, empty when nothing did.
    ``server`` names the external server that answers there: the model's memory is then the server's business.
    ``barred`` says why no request may go there now (a circuit breaker, a verdict, an engine that cannot), empty when
    it may; ``again_s`` is after how many seconds one may, None where time alone changes nothing. ``held`` says who has
    the device alone: requests may wait there, but nobody knows how long. ``doubt`` says what its newest probe came to
    where that was not well: it counts less. ``up_ratio`` is the share of its probes of 24 h that were well, ``drift``
    how much slower than at their best the newest ones were, None where that is no more than chance.
    """

    pace: Pace | None = None
    loaded: bool = False
    running: int = 0
    waiting: int = 0
    limit: int = 1
    limit_why: str = ""
    server: str | None = None
    barred: str = ""
    again_s: float | None = None
    held: str = ""
    doubt: str = ""
    up_ratio: float | None = None
    drift: float | None = None


NO_CIRCUMSTANCE = Circumstance()


@dataclass(frozen=True, slots=True)
class Knowledge:
    """All that a ranking knows of one model, besides the snapshot.

    ``shape`` is None where the model's size is not known. ``circumstances`` are by the device's key. ``prompt_tokens``
    and ``answer_tokens`` are how long prompt and answer are taken to be.
    """

    model: str | None = None
    shape: ModelShape | None = None
    circumstances: Mapping[str, Circumstance] = field(default_factory=lambda: MappingProxyType({}))
    prompt_tokens: int = 64
    answer_tokens: int = 64

    def of(self, key: str) -> Circumstance:
        """What holds for the device with that key."""
        return self.circumstances.get(key, NO_CIRCUMSTANCE)


NOTHING_KNOWN = Knowledge()
