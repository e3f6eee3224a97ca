"""Which models a server offers, and whether it answers, kept fresh while somebody is interested."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from hwdash.core.errors import HwdashError, ServerDown, UnknownModel
from hwdash.core.server import ServerConfig, server_label, status_problem
from hwdash.core.text import sanitise_line
from hwdash.engine.remote_error import refusal
from hwdash.engine.remote_link import SHUTTING_DOWN, Link

PROBE_EVERY_S = 10.0
PROBE_LIMIT_S = 2.0
LIST_EVERY_S = 300.0
_INTEREST_S = 60.0
"""How long after the last question the server is still probed."""
_MOST_MODELS = 1000
_LONGEST_NAME = 512
_SHOWN_MODELS = 5


class Roster:
    """The models of *server* by its own list, over *link*.

    ``models`` is None while the list is not known: not asked for yet, or the server has none, and is taken at its
    word. ``problem`` is why it cannot answer, in words.
    """

    def __init__(self, server: ServerConfig, link: Link) -> None:
        self.models: tuple[str, ...] | None = None
        self.problem = ""
        self._server = server
        self._link = link
        self._asked_at: float | None = None
        self._wanted_at = 0.0
        self._listed_at = float("-inf")
        self._heard_at = float("-inf")
        self._doubted = False
        self._known = False
        self._probe: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def asked(self) -> bool:
        """Whether the server was ever asked."""
        return self._asked_at is not None

    @property
    def known(self) -> bool:
        """Whether the server ever answered."""
        return self._known

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which its models are offered, as far as they are known."""
        if self._server.model is not None:
            return (self._server.model,)
        return self.models or ()

    def own_name(self, model: str) -> str | None:
        """The server's own name for *model*; None when it does not serve it."""
        alias = self._server.model
        if alias is None:
            return model if not self.models or model in self.models else None
        if model != alias:
            return None
        return self.models[0] if self.models is not None and len(self.models) == 1 else alias

    def trouble(self, model: str) -> str:
        """Why *model* cannot be had here, by what is known; empty when it can."""
        if self.problem:
            return self.problem
        if self.own_name(model) is not None:
            return ""
        names = ", ".join(self.names[:_SHOWN_MODELS])
        more = f" and {len(self.names) - _SHOWN_MODELS} more" if len(self.names) > _SHOWN_MODELS else ""
        return f"{server_label(self._server)} does not serve {model}; it serves: {names}{more}"

    async def check(self, model: str) -> str:
        """The server's own name for *model*, by a list no older than twice `PROBE_EVERY_S`.

        Raises `ServerDown` and `UnknownModel`.
        """
        self.want()
        old = self._asked_at is None or time.monotonic() - self._asked_at > 2 * PROBE_EVERY_S
        if old or self._doubted or self.trouble(model):
            await self.refresh()
        if self.problem:
            raise ServerDown(self.problem)
        if (name := self.own_name(model)) is None:
            raise UnknownModel(self.trouble(model), param="model")
        return name

    def want(self) -> None:
        """Somebody is interested: probe the server now and then for a while. Only on a running loop."""
        self._wanted_at = time.monotonic()
        if not self._closed and (self._watch is None or self._watch.done()):
            self._watch = asyncio.get_running_loop().create_task(self._keep_fresh())

    def heard(self) -> None:
        """The server just made a token: one that is busy with it may be slow to tell its models."""
        self._heard_at = time.monotonic()

    def doubt(self) -> None:
        """A request failed: ask again before the next one, and soon."""
        self._doubted = True
        self._heard_at = float("-inf")
        if not self._closed:
            self._start()

    async def refresh(self) -> None:
        """Ask the server now; whoever comes meanwhile waits for the same answer. Raises `ServerDown` once it is closed."""
        if self._closed:
            raise ServerDown(SHUTTING_DOWN)
        probe = self._start()
        await asyncio.wait((probe,))
        if probe.cancelled():
            raise ServerDown(SHUTTING_DOWN)
        probe.result()

    async def close(self) -> None:
        """End what asks by itself."""
        self._closed = True
        tasks = [task for task in (self._watch, self._probe) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, *, listing: bool = True) -> asyncio.Task[None]:
        if self._probe is None or self._probe.done():
            self._probe = asyncio.get_running_loop().create_task(self._ask(listing=listing))
        return self._probe

    async def _keep_fresh(self) -> None:
        while time.monotonic() - self._wanted_at < _INTEREST_S:
            if self._asked_at is None or time.monotonic() - self._asked_at >= PROBE_EVERY_S:
                # Asking llama-cpp-python for its list breaks off what it computes: it is asked that seldom.
                await asyncio.wait((self._start(listing=time.monotonic() - self._listed_at > LIST_EVERY_S),))
            await asyncio.sleep(PROBE_EVERY_S)

    async def _ask(self, *, listing: bool) -> None:
        listing = listing or bool(self.problem) or self._doubted or not self._known
        self._doubted = False
        try:
            problem = self._problem_of(await self._link.probe(PROBE_LIMIT_S))
            if not problem and listing:
                problem = await self._read_list()
            self.problem = problem
        except TimeoutError:
            if time.monotonic() - self._heard_at > PROBE_EVERY_S:
                self.problem = f"{server_label(self._server)} does not answer within {PROBE_LIMIT_S:g} s"
        except HwdashError as error:
            self.problem = error.message
        finally:
            self._asked_at = time.monotonic()

    async def _read_list(self) -> str:
        """Learn the models. What keeps the server from answering, by its list; empty: nothing."""
        self._listed_at = time.monotonic()
        try:
            status, body = await self._link.models(PROBE_LIMIT_S)
        except TimeoutError:
            return ""  # it answered the probe: llama-cpp-python lists nothing while it computes
        problem = self._problem_of(status)
        if not problem:
            self._known = True
            self.models = _names_in(body) if status == 200 else None
        return problem

    def _problem_of(self, status: int) -> str:
        if status in (401, 403):
            return refusal(self._server)
        words = status_problem(status)
        return f"{server_label(self._server)} {words}" if words else ""


def _names_in(body: Any) -> tuple[str, ...] | None:
    """The names in a list of models; None for what is no list, or an empty one: some servers tell only part."""
    entries = body.get("data") if isinstance(body, dict) else None
    if not isinstance(entries, list):
        return None
    found: dict[str, None] = {}
    for entry in entries[:_MOST_MODELS]:
        name = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and sanitise_line(name, _LONGEST_NAME) == name:
            found[name] = None
    return tuple(found) or None
