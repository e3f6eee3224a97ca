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

    ``turn`` is done when the device is the holder's. ``until_s`` is when it will have ended, by the monotonic clock,
    None where nobody knows. ``before`` are the requests that waited already when it came.
    """

    def __init__(
        self,
        why: str,
        until_s: float | None,
        on_wanted: Callable[[], None] | None,
        before: frozenset[Place],
        release: Callable[[Hold], None],
    ) -> None:
        self.why = why
        self.until_s = until_s
        self.before = before
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_wanted = on_wanted
        self._release = release

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
