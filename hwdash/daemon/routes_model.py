"""The model store: list, fetch, remove."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hwdash.core.wire import dumps, to_wire
from hwdash.daemon.body import PullBody, read_body
from hwdash.daemon.service import Service
from hwdash.daemon.stream import JSON_LINES, Stream, json_response

router = APIRouter(prefix="/api/v1/models")


@router.get("")
async def models(request: Request) -> Response:
    """All models of the store."""
    service: Service = request.app.state.service
    return json_response({"models": to_wire(await service.models())})


@router.post("/pull")
async def pull(request: Request) -> Response:
    """Fetch a model: a line of progress at a time, the last one with the model as ``done``."""
    service: Service = request.app.state.service
    body = await read_body(request, PullBody)
    return Stream(_lines(service, body.model), JSON_LINES, service.stopping)


@router.delete("/{name:path}")
async def remove(request: Request, name: str) -> Response:
    """Delete a model from the store."""
    service: Service = request.app.state.service
    await service.remove_model(name)
    return json_response({"removed": name})


async def _lines(service: Service, model: str) -> AsyncGenerator[bytes, None]:
    async with aclosing(service.pull(model)) as progress:
        async for step in progress:
            yield dumps({"type": "progress"} | to_wire(step)) + b"\n"
