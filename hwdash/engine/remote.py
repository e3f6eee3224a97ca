"""An OpenAI-compatible server as an engine: it computes, the figures are measured at this end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from hwdash.core.device import Device
from hwdash.core.errors import EngineError, Overloaded, ServerDown, UnknownModel, UsageError
from hwdash.core.inference import EngineEvent, PromptRequest, Stage, StageEvent
from hwdash.core.measurement import MeasurePlan, MeasureReport
from hwdash.core.model import ModelShape
from hwdash.core.server import ServerConfig, server_label
from hwdash.core.status import WorkerState, WorkerStatus
from hwdash.core.trial import DeviceTrial
from hwdash.engine.engine import Standing
from hwdash.engine.job import queued_stage
from hwdash.engine.remote_answer import Answer
from hwdash.engine.remote_error import error_of
from hwdash.engine.remote_link import Link
from hwdash.engine.remote_roster import Roster
from hwdash.engine.remote_stream import BadStream, Chunk, EventStream, read_chunk

NO_TOKEN_S = 600.0
"""The longest wait for a token, whatever else the server sends meanwhile, such as signs of life."""
MOST_TOLD = 64
"""The devices and models that it is told of to have answered for: a server may take any name for a model."""
_AFTER_END_S = 1.0
"""How long the token counts may take after the answer ended."""


class RemoteEngine:
    """A `hwdash.engine.engine.Engine` over one *server*, which answers for every device it is asked on.

    At most ``server.slots`` requests are with the server at once, so that its own queue is not taken for slowness;
    at most *max_queue* wait here.
    """

    def __init__(self, server: ServerConfig, max_queue: int = 32) -> None:
        self.server = server
        self._max_queue = max_queue
        self._link = Link(server)
        self.roster = Roster(server, self._link)
        self._turns = asyncio.Semaphore(server.slots)
        self._running = 0
        self._waiting = 0
        self._answered: dict[tuple[str, str], str] = {}

    async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent, None]:
        """Answer *request*: stages, tokens, then one `Generation`. Closing the iterator closes the connection.

        Raises `UnknownModel`, `UsageError`, `PromptTooLong`, `Overloaded` and `ServerDown`.
        """
        arrived = time.monotonic()
        if self._turns.locked() and self._waiting >= self._max_queue:
            raise Overloaded(
                f"{self._waiting} requests already wait for {server_label(self.server)}; try again later "
                "or raise engine.max_queue"
            )
        self._waiting += 1
        try:
            if self._turns.locked():
                yield queued_stage(device.id, self._running + self._waiting - 1)
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        self._running += 1
        try:
            answer = Answer(request, arrived, time.monotonic() - arrived)
            name = await self.roster.check(request.model)
            yield StageEvent(Stage.PREFILL, device.id, f"sent to {server_label(self.server)}")
            async with aclosing(self._stream(request, name, answer)) as events:
                async for event in events:
                    yield event
            self._note(device, request.model)
        finally:
            self._running -= 1
            self._turns.release()

    def serves(self, model: str) -> bool:
        """Whether it is the one for *model*, by what is known: a server that never answered only for a model of its setting."""
        if self.roster.known:
            return self.roster.own_name(model) is not None
        return model == self.server.model

    async def check(self, model: str, device: Device) -> None:
        """Raise `ServerDown` when the server does not answer and `UnknownModel` when it does not serve *model*."""
        await self.roster.check(model)

    async def prewarm(self, model: str, device: Device) -> None:
        """Nothing to do: what the server has loaded is its own business. Raises as `check` does."""
        await self.roster.check(model)

    def measure(self, plan: MeasurePlan, device: Device) -> AsyncGenerator[StageEvent | MeasureReport, None]:
        """Raise `EngineError`: what a server computes with cannot be measured from outside."""
        raise EngineError(
            f"{device.id} is answered for by {server_label(self.server)}, which cannot be measured from outside; "
            "choose a device that hwdash itself drives"
        )

    async def trial(self, model: str, device: Device) -> DeviceTrial | None:
        """None: what a server computes with is its own business."""
        return None

    def standing(self, model: str, device: Device) -> Standing:
        """How the server stands to *model*, as the newest probe of it told."""
        self.roster.want()
        return Standing(
            loaded=True,
            running=self._running,
            waiting=self._waiting,
            slots=self.server.slots,
            server=self.server.name or self.server.url,
            problem=self.roster.trouble(model),
        )

    async def shape(self, model: str) -> ModelShape | None:
        """None: a server does not tell."""
        return None

    def served(self) -> Sequence[str]:
        """The names of its models, as far as they are known."""
        self.roster.want()
        return self.roster.names

    def workers(self) -> Sequence[WorkerStatus]:
        """One entry for each device and model of the newest `MOST_TOLD` that it answered for."""
        found = []
        for (_, model), device in sorted(self._answered.items()):
            problem = self.roster.trouble(model)
            state = WorkerState.STOPPED if problem else WorkerState.BUSY if self._running else WorkerState.READY
            found.append(WorkerStatus(device, model, state, queued=self._waiting, problem=problem))
        return tuple(found)

    async def close(self) -> None:
        """Break off what is under way and let go of the server."""
        await self.roster.close()
        await self._link.close()

    async def _stream(self, request: PromptRequest, name: str, answer: Answer) -> AsyncGenerator[EngineEvent, None]:
        path = "/chat/completions" if request.template else "/completions"
        try:
            async with (
                self._link.stream(path, body_of(request, name), request.model) as pieces,
                aclosing(self._chunks(pieces, answer)) as chunks,
            ):
                async for chunk in chunks:
                    if not answer.ended:
                        self._refuse(chunk, request.model)
                    event = answer.take(chunk)
                    if answer.bloated:
                        raise ServerDown(
                            f"{server_label(self.server)} sends more than was asked for: no answer of "
                            f"{request.max_tokens} tokens is that large"
                        )
                    if event is not None:
                        yield event
        except UnknownModel as error:
            if self.roster.models is None or name not in self.roster.models:
                raise
            raise ServerDown(
                f"{error.message}, although it lists it; is its url the base of the API, which mostly ends in /v1?"
            ) from None
        except ServerDown:
            if not answer.ended:
                self.roster.doubt()
                raise
        if (event := answer.rest()) is not None:
            yield event
        yield answer.generation()

    async def _chunks(self, pieces: AsyncGenerator[bytes, None], answer: Answer) -> AsyncGenerator[Chunk, None]:
        """The chunks in *pieces* up to the end of the answer. Raises `ServerDown` for one that is cut off."""
        stream = EventStream()
        token_at, ended_at = time.monotonic(), float("inf")
        try:
            while True:
                async with asyncio.timeout(min(token_at + NO_TOKEN_S, ended_at + _AFTER_END_S) - time.monotonic()):
                    piece = await anext(pieces, None)
                for data in stream.end() if piece is None else stream.feed(piece):
                    if (chunk := read_chunk(data)) is None:
                        if not answer.complete:
                            raise ServerDown(f"{server_label(self.server)} ended the answer without a reason: {_CUT}")
                        return
                    if chunk.text:
                        token_at = time.monotonic()
                        self.roster.heard()
                    yield chunk
                if piece is None or answer.overlong:
                    break
                if answer.ended:
                    ended_at = min(ended_at, time.monotonic())
        except BadStream as error:
            raise ServerDown(f"{server_label(self.server)} sends nonsense: {error}") from None
        except TimeoutError:
            if not answer.ended:
                raise ServerDown(f"{server_label(self.server)} made no token for {NO_TOKEN_S:g} s") from None
        if not answer.ended:
            # llama-cpp-python tells nothing else of a prompt that does not fit.
            what = (
                "broke off the answer before its end"
                if answer.begun
                else "sends nothing: see its log; is the prompt too long?"
            )
            raise ServerDown(f"{server_label(self.server)} {what}")

    def _refuse(self, chunk: Chunk, model: str) -> None:
        """Raise the error that *chunk* tells of, if it tells of one."""
        label = server_label(self.server)
        if chunk.error:
            words = self._link.told(chunk.error)
            if chunk.status in _TOLD:
                raise error_of(self.server, model, chunk.status or 0, words)
            raise ServerDown(f"{label} broke off the answer: {words}")
        if chunk.finish in _BROKEN:
            raise ServerDown(f"{label} broke off the answer itself ({chunk.finish})")
        # Neither is a failure of the server, and another try would come to the same.
        if chunk.finish == "content_filter":
            raise UsageError(f"{label} withholds the rest of the answer (content_filter); word the prompt otherwise")
        if chunk.finish in _CALLS:
            raise UsageError(
                f"{label} ends the answer with a call of a tool ({chunk.finish}), and none was offered; "
                "turn tool parsing off there, or word the prompt otherwise"
            )

    def _note(self, device: Device, model: str) -> None:
        """*model* was answered for on *device*: the newest of these are told by `workers`."""
        self._answered.pop((device.key, model), None)
        self._answered[device.key, model] = device.id
        if len(self._answered) > MOST_TOLD:
            del self._answered[next(iter(self._answered))]


_CUT = "did another request interrupt it?"
"""What llama-cpp-python does as it comes."""
_TOLD = (400, 401, 403, 404, 413, 422, 429)
_CALLS = ("tool_calls", "function_call")
_BROKEN = ("abort", "error")
"""Words of vLLM and SGLang for an answer that is not complete."""


def body_of(request: PromptRequest, name: str) -> dict[str, Any]:
    """*request* in the words of OpenAI's API, for the model that the server calls *name*."""
    body: dict[str, Any] = {
        "model": name,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
    }
    if request.template:
        body["messages"] = [{"role": turn.role, "content": turn.content} for turn in request.messages]
    else:
        body["prompt"] = "".join(turn.content for turn in request.messages)
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    return body
