"""Probes: one now, and how devices stood theirs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from hwdash.core.duration import parse_duration
from hwdash.core.inference import AUTO
from hwdash.core.probe import ProbeRequest
from hwdash.core.wire import dumps, to_wire
from hwdash.daemon.body import Name, read_body
from hwdash.daemon.service import Service
from hwdash.daemon.stream import Stream, json_response

router = APIRouter()


class ProbeBody(BaseModel):
    """One probe now."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    device: Name = AUTO
    model: Name | None = None
    accept: bool = False


@router.post("/api/v1/probe")
async def probe(request: Request) -> Response:
    """Probe a device now and answer with what came of it; closing the connection breaks it off."""
    service: Service = request.app.state.service
    body = await read_body(request, ProbeBody)
    wanted = ProbeRequest(body.device, body.model, body.accept)
    return Stream(_result(service, wanted), "application/json", service.stopping)


async def _result(service: Service, wanted: ProbeRequest) -> AsyncGenerator[bytes, None]:
    yield dumps(to_wire(await service.prober.probe(wanted)))


@router.get("/api/v1/history/uptime")
async def uptime(
    request: Request,
    since: Annotated[str, Query()] = "24h",
    device: Annotated[str | None, Query(min_length=1, max_length=512)] = None,
) -> Response:
    """How devices and models stood their probes, as ``hwdash history uptime --format json``."""
    service: Service = request.app.state.service
    return json_response(to_wire(await service.uptime(parse_duration(since, "since"), device)))
