"""History: what the store holds."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from hwdash.core.duration import parse_duration
from hwdash.core.event import EventKind, Severity
from hwdash.core.wire import to_wire
from hwdash.daemon.service import Service
from hwdash.daemon.stream import json_response

router = APIRouter()


@router.get("/api/v1/history/latency")
async def latency(
    request: Request,
    since: Annotated[str, Query()] = "1h",
    device: Annotated[str | None, Query(min_length=1, max_length=512)] = None,
    buckets: Annotated[int, Query(ge=1, le=2000)] = 120,
) -> Response:
    """Latency over time per device and model, as ``hwdash history latency --json``."""
    service: Service = request.app.state.service
    return json_response(to_wire(await service.latency(parse_duration(since, "since"), device, buckets)))


@router.get("/api/v1/history/metrics")
async def metrics(
    request: Request,
    metric: Annotated[str, Query(min_length=1, max_length=100)],
    since: Annotated[str, Query()] = "1h",
    device: Annotated[str | None, Query(min_length=1, max_length=512)] = None,
    buckets: Annotated[int, Query(ge=1, le=2000)] = 120,
) -> Response:
    """One metric over time per device, as ``hwdash history metrics --format json``."""
    service: Service = request.app.state.service
    history = await service.metric(metric, parse_duration(since, "since"), device, buckets)
    return json_response(to_wire(history))


@router.get("/api/v1/events")
async def events(
    request: Request,
    since: Annotated[str, Query()] = "1h",
    device: Annotated[str | None, Query(min_length=1, max_length=512)] = None,
    kind: Annotated[EventKind | None, Query()] = None,
    severity: Annotated[Severity, Query()] = Severity.INFO,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """The newest events of that severity or worse, oldest first, as ``hwdash history events --format json``."""
    service: Service = request.app.state.service
    history = await service.events(parse_duration(since, "since"), device, kind, limit, severity)
    return json_response(to_wire(history))
