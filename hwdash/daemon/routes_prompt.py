"""Prompts: one request in, a line of JSON an event out."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hwdash.core.inference import PromptRequest
from hwdash.core.wire import dumps, event_to_wire
from hwdash.daemon.body import PromptBody, read_body
from hwdash.daemon.service import Service
from hwdash.daemon.stream import JSON_LINES, Stream

router = APIRouter()


@router.post("/api/v1/prompt")
async def prompt(request: Request) -> Response:
    """Answer a prompt: stages, tokens, and the finished record, each a line; closing the connection cancels it."""
    service: Service = request.app.state.service
    body = await read_body(request, PromptBody)
    return Stream(_lines(service, body.to_request(service.default_model)), JSON_LINES, service.stopping)


async def _lines(service: Service, request: PromptRequest) -> AsyncGenerator[bytes, None]:
    async with aclosing(service.prompt(request)) as events:
        async for event in events:
            yield dumps(event_to_wire(event)) + b"\n"
