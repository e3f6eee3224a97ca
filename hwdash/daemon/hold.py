"""Somebody that has a device for itself, or waits for that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from hwdash.daemon.gate import Place


class Hold:
    """One exclusive hold of a gate; leaving its context gives the device back.

    ``turn`` is done when the device is the holder's, who needs it for ``lasts_s`` about from then on, None where nobody
    knows. ``before`` are the requests that waited already when it came.
    """

    def __init__(
        self,
        why: str,
        lasts_s: float | None,
        on_wanted: Callable[[], None] | None,
        before: frozenset[Place],
        release: Callable[[Hold], None],
    ) -> None:
        self.why = why
        self.lasts_s = lasts_s
        self.before = before
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._began_s: float | None = None
        self._on_wanted = on_wanted
        self._release = release

    def begin(self, now_s: float) -> None:
        """The device is the holder's from *now_s* of the monotonic clock on."""
        self._began_s = now_s
        self.turn.set_result(None)

    def left_s(self, now_s: float) -> float:
        """For how much longer it needs the device at *now_s*, as far as the holder told; 0 where it did not, or is late."""
        ran_s = 0.0 if self._began_s is None else now_s - self._began_s
        return max(0.0, (self.lasts_s or 0.0) - ran_s)

    @property
    def gives_way(self) -> bool:
        """Its holder goes when somebody else wants the device."""
        return self._on_wanted is not None

    def wanted(self) -> None:
        """Tell the holder that somebody waits for the device."""
        if self._on_wanted is not None:
            self._on_wanted()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release(self)
