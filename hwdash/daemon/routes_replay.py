"""Steering a recording that is played."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hwdash.core.wire import to_wire
from hwdash.daemon.body import ReplayBody, read_body
from hwdash.daemon.service import Service
from hwdash.daemon.stream import json_response

router = APIRouter()


@router.post("/api/v1/replay")
async def replay(request: Request) -> Response:
    """Pause, go on, jump, change speed or loop; an empty object asks for the state alone. Answers with the state."""
    service: Service = request.app.state.service
    body = await read_body(request, ReplayBody)
    return json_response(to_wire(service.replay(body.to_request())))
