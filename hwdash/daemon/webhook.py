"""Alerts sent to a URL: one POST each, at most so many a minute, the rest in a summary."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from dataclasses import dataclass
from typing import Any

from hwdash import __version__
from hwdash.core.clock import SYSTEM_CLOCK, Clock
from hwdash.core.event import Event
from hwdash.core.text import sanitise_line
from hwdash.core.wire import dumps, to_wire
from hwdash.daemon.post import Address, Poster, PostFailed
from hwdash.monitor.complaint import Complaints

log = logging.getLogger(__name__)

_MOST_WAITING = 100
_MOST_IN_SUMMARY = 20


@dataclass(frozen=True, slots=True)
class Pace:
    """How long one try may take and when the second one comes, and how many messages are sent in which time (s)."""

    timeout_s: float = 5.0
    retry_s: float = 2.0
    most: int = 10
    window_s: float = 60.0


_PACE = Pace()


class Webhook:
    """Sends events to *url*, in order, in a task that lives while there is something to send.

    At most ``most`` messages go out in ``window_s``, second tries among them; what comes on top is counted and told in
    one summary. At most 100 wait: the oldest go, counted likewise. A message that fails twice is given up: `problems`
    says why until one works.
    """

    def __init__(self, url: str, clock: Clock = SYSTEM_CLOCK, pace: Pace = _PACE) -> None:
        self._address = Address.of(url)
        self._poster = Poster(self._address)
        self._complaints = Complaints(log, clock)
        self._pace = pace
        self._waiting: deque[Event] = deque(maxlen=_MOST_WAITING)
        self._left_out = 0
        self._sent_at: deque[float] = deque(maxlen=pace.most)
        self._task: asyncio.Task[None] | None = None
        self._failure = ""
        self._failed = 0
        self._closed = False

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, a sentence each; empty while all is well."""
        if not self._failure:
            return ()
        lost = "1 message was" if self._failed == 1 else f"{self._failed} messages were"
        return (f"alerts.webhook {self._address}: {self._failure}; {lost} not delivered",)

    def offer(self, event: Event) -> None:
        """Have *event* sent. Never blocks, never raises."""
        if self._closed:
            return
        self._left_out += len(self._waiting) == _MOST_WAITING
        self._waiting.append(event)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send_all(), name="hwdash-webhook")

    async def close(self) -> None:
        """Stop sending; what still waits is not sent."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._poster.close()

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                held_back = await self._hold_back()
                message = self._summary() if held_back or self._left_out else self._message(self._waiting.popleft())
                await self._deliver(dumps(message | {"host": _host(), "version": __version__}))
        except Exception:
            log.exception("sending alerts to %s failed", self._address)
            self._failure, self._failed = "internal error; see the log", self._failed + 1

    async def _hold_back(self) -> bool:
        """Wait until one more message may go out; true when that took time."""
        if len(self._sent_at) < self._pace.most:
            return False
        wait_s = self._sent_at[0] + self._pace.window_s - asyncio.get_running_loop().time()
        if wait_s <= 0.0:
            return False
        await asyncio.sleep(wait_s)
        return True

    def _message(self, event: Event) -> dict[str, Any]:
        return {"event": to_wire(event)}

    def _summary(self) -> dict[str, Any]:
        """All that waits in one message, which empties the queue; a single event stays a message of its own."""
        events = list(self._waiting)
        count = len(events) + self._left_out
        self._waiting.clear()
        self._left_out = 0
        if count == 1:
            return self._message(events[0])
        words = f"{count} events were held back: at most {self._pace.most} messages go out in {self._pace.window_s:g} s"
        return {"held_back": count, "words": words, "events": to_wire(events[-_MOST_IN_SUMMARY:])}

    async def _deliver(self, body: bytes) -> None:
        try:
            try:
                await self._post(body)
            except PostFailed as failure:
                if failure.final:
                    raise
                await asyncio.sleep(self._pace.retry_s)
                await self._hold_back()
                await self._post(body)
        except PostFailed as failure:
            self._failure, self._failed = failure.message, self._failed + 1
            self._complaints.say(f"alerts.webhook {self._address}: {failure.message}")
        else:
            if self._failure:
                log.warning("alerts.webhook %s works again; %d messages were lost", self._address, self._failed)
            self._failure, self._failed = "", 0

    async def _post(self, body: bytes) -> None:
        self._sent_at.append(asyncio.get_running_loop().time())
        await self._poster.post(body, self._pace.timeout_s)


def _host() -> str:
    return sanitise_line(socket.gethostname())
