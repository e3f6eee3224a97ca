"""Benches: how fast a device is, a line of JSON an event; and the reports of earlier ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from hwdash.core.bench import MAX_BATCH, MAX_NEW_TOKENS, MAX_PROMPT_TOKENS, MAX_TRIED, BenchRequest
from hwdash.core.bench_event import bench_event_to_wire
from hwdash.core.inference import AUTO
from hwdash.core.wire import dumps, to_wire
from hwdash.daemon.body import Name, read_body
from hwdash.daemon.requirement import WHOLE
from hwdash.daemon.service import Service
from hwdash.daemon.stream import JSON_LINES, Stream, json_response

router = APIRouter()

_Dtype = Annotated[str, Field(min_length=1, max_length=20, pattern=r"^[a-z0-9]+$")]
_Batch = Annotated[int, Field(ge=1, le=MAX_BATCH), WHOLE]
_Length = Annotated[int, Field(ge=1, le=MAX_PROMPT_TOKENS), WHOLE]
_USUAL = BenchRequest("")


class BenchBody(BaseModel):
    """What to measure, with what."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    device: Name = AUTO
    model: Name | None = None
    dtypes: Annotated[list[_Dtype], Field(max_length=MAX_TRIED, fail_fast=True)] = []
    batches: Annotated[list[_Batch], Field(min_length=1, max_length=MAX_TRIED, fail_fast=True)] = list(_USUAL.batches)
    prompt_tokens: Annotated[list[_Length], Field(min_length=1, max_length=MAX_TRIED, fail_fast=True)] = list(
        _USUAL.prompt_tokens
    )
    new_tokens: Annotated[int, Field(ge=2, le=MAX_NEW_TOKENS), WHOLE] = _USUAL.new_tokens

    def to_request(self, default_model: str) -> BenchRequest:
        """The request, with *default_model* where none is named."""
        return BenchRequest(
            model=self.model or default_model,
            device=self.device,
            dtypes=tuple(self.dtypes),
            batches=tuple(self.batches),
            prompt_tokens=tuple(self.prompt_tokens),
            new_tokens=self.new_tokens,
        )


@router.post("/api/v1/bench")
async def bench(request: Request) -> Response:
    """Measure a device: stages, steps and the report, each a line; closing the connection ends it at once."""
    service: Service = request.app.state.service
    body = await read_body(request, BenchBody)
    return Stream(_lines(service, body.to_request(service.default_model)), JSON_LINES, service.stopping)


@router.get("/api/v1/bench")
async def benches(
    request: Request,
    device: Annotated[str | None, Query(min_length=1, max_length=512)] = None,
    model: Annotated[str | None, Query(min_length=1, max_length=512)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
) -> Response:
    """The reports of the newest benches, oldest first, as ``hwdash bench --history --json``."""
    service: Service = request.app.state.service
    history = await service.bencher.history(await service.key_of(device), model, limit)
    return json_response(await asyncio.to_thread(to_wire, history))


async def _lines(service: Service, request: BenchRequest) -> AsyncGenerator[bytes, None]:
    async with aclosing(service.bencher.bench(request)) as events:
        async for event in events:
            yield dumps(bench_event_to_wire(event)) + b"\n"
