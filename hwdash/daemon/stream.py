"""Answers as JSON: whole, or line by line as they are made, with the client's leaving noticed at once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hwdash.core.errors import DaemonUnreachable, HwdashError, Overloaded
from hwdash.core.wire import dumps, error_to_wire

EVENT_STREAM = "text/event-stream"
JSON_LINES = "application/x-ndjson"


def json_response(value: object, status: int = 200) -> Response:
    """*value* as a JSON answer."""
    return Response(dumps(value), status, media_type="application/json")


def error_response(error: HwdashError) -> Response:
    """*error* in its one shape, with its HTTP status."""
    response = json_response(error_to_wire(error), error.http_status)
    if isinstance(error, Overloaded):
        response.headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.http_status in (408, 413):
        response.headers["connection"] = "close"
    return response


class Stream(Response):
    """A body made chunk by chunk. The headers go out with the first chunk, so that an early error has its own status.

    An error after that is told as a last chunk, ``{"type": "error", "error": {…}}``. *chunks* is closed as soon as
    the client leaves or *stopping* is set. (Who stops reading is taken off by the connection: `Patience.stalled_s`.)
    """

    def __init__(self, chunks: AsyncGenerator[bytes, None], media_type: str, stopping: asyncio.Event) -> None:
        super().__init__(media_type=media_type, headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._chunks = chunks
        self._stopping = stopping
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all chunks, or as many as the client wants."""
        work = asyncio.create_task(self._send_chunks(send))
        gone = asyncio.create_task(_disconnected(receive))
        stop = asyncio.create_task(self._stopping.wait())
        error: HwdashError | None = None
        try:
            await asyncio.wait({work, gone, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
                error = DaemonUnreachable("the daemon is stopping")
            else:
                error = work.result()
        finally:
            for task in (work, gone, stop):
                task.cancel()
        if error is not None and not self._begun:
            await self.refusal(error)(scope, receive, send)
            return
        await self._begin(send)
        if error is not None and (last := self.last_words(error)):
            await send(_chunk(last))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def refusal(self, error: HwdashError) -> Response:
        """What is answered in the place of the stream for an *error* before its first chunk."""
        return error_response(error)

    def last_words(self, error: HwdashError) -> bytes:
        """The last chunk for an *error* after the first one; empty: the stream just ends."""
        return dumps({"type": "error"} | error_to_wire(error)) + b"\n" if self.media_type == JSON_LINES else b""

    async def _send_chunks(self, send: Send) -> HwdashError | None:
        try:
            async for chunk in self._chunks:
                await self._begin(send)
                await send(_chunk(chunk))
        except HwdashError as error:
            return error
        finally:
            await self._chunks.aclose()
        return None

    async def _begin(self, send: Send) -> None:
        if not self._begun:
            self._begun = True
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})


def _chunk(body: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
