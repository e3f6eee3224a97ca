"""Soaks: a device under full load, a line of JSON an event; and what came of earlier ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from hwdash.core.soak import SoakRequest
from hwdash.core.soak_event import soak_event_to_wire
from hwdash.core.wire import dumps, to_wire
from hwdash.daemon.body import Name, read_body
from hwdash.daemon.requirement import WHOLE
from hwdash.daemon.service import Service
from hwdash.daemon.stream import JSON_LINES, Stream, json_response

router = APIRouter()

MAX_SECONDS = 86_400.0
"""A soak lasts a day at most."""


class SoakBody(BaseModel):
    """What to load, with what, and when to end."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    device: Name
    model: Name | None = None
    load: Literal["decode", "matmul"] = "decode"
    seconds: float = Field(300.0, ge=1.0, le=MAX_SECONDS)
    until_throttled: bool = False
    max_temperature_c: float | None = Field(None, ge=1.0, le=200.0)
    batch: Annotated[int, Field(ge=1, le=256), WHOLE] = 8
    dtype: Name | None = None

    def to_request(self) -> SoakRequest:
        """The request; its model is empty where none is named."""
        return SoakRequest(
            device=self.device,
            model=self.model or "",
            load=self.load,
            seconds=self.seconds,
            until_throttled=self.until_throttled,
            max_temperature_c=self.max_temperature_c,
            batch=self.batch,
            dtype=self.dtype,
        )


@router.post("/api/v1/soak")
async def soak(request: Request) -> Response:
    """Load a device: stages, what it is, samples and the report, each a line; closing the connection ends the load."""
    service: Service = request.app.state.service
    body = await read_body(request, SoakBody)
    return Stream(_lines(service, body.to_request()), JSON_LINES, service.stopping)


@router.get("/api/v1/soak")
async def soaks(
    request: Request,
    device: Annotated[str | None, Query(min_length=1, max_length=512)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 10,
) -> Response:
    """The reports of the newest soaks, oldest first, as ``hwdash soak --history --json``."""
    service: Service = request.app.state.service
    history = await service.soaker.history(await service.key_of(device), limit)
    return json_response(await asyncio.to_thread(to_wire, history))


async def _lines(service: Service, request: SoakRequest) -> AsyncGenerator[bytes, None]:
    async with aclosing(service.soaker.soak(request)) as events:
        async for event in events:
            yield dumps(soak_event_to_wire(event)) + b"\n"
