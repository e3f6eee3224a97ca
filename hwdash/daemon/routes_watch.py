"""Watching: liveness, readiness, status, devices, the stream of snapshots, and the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hwdash.core.snapshot import Snapshot
from hwdash.core.wire import dumps, to_wire
from hwdash.daemon.guard import Refused, over_tcp
from hwdash.daemon.service import Service
from hwdash.daemon.stream import EVENT_STREAM, Stream, json_response

router = APIRouter()


@router.get("/health")
@router.head("/health", include_in_schema=False)
async def health() -> Response:
    """The process lives."""
    return json_response({"status": "ok"})


@router.get("/ready")
@router.head("/ready", include_in_schema=False)
async def ready(request: Request) -> Response:
    """200 once all devices have been sampled, 503 until then."""
    service: Service = request.app.state.service
    sampled = service.snapshots.latest is not None
    return json_response({"status": "ready" if sampled else "starting"}, 200 if sampled else 503)


@router.get("/api/v1/status")
async def status(request: Request) -> Response:
    """The daemon's own state."""
    service: Service = request.app.state.service
    return json_response(to_wire(service.status()))


@router.get("/api/v1/devices")
async def devices(request: Request) -> Response:
    """All devices, as ``hwdash devices --json``."""
    service: Service = request.app.state.service
    return json_response({"devices": to_wire(await service.snapshot())["devices"]})


@router.get("/api/v1/stream")
async def stream(request: Request) -> Response:
    """Server-sent events: the newest snapshot at once, then one an interval."""
    service: Service = request.app.state.service
    return Stream(_events(service, request.app.state.frame), EVENT_STREAM, service.stopping)


@router.post("/api/v1/stop")
async def stop(request: Request) -> Response:
    """End the daemon, once this answer is out. Its owner does that, over the socket."""
    if over_tcp(request.scope):
        raise Refused("a daemon is not ended over TCP; on its own machine: hwdash stop")
    request.app.state.stop()
    return json_response({"status": "stopping"}, 202)


class Frame:
    """The newest snapshot in its encoded form, made once for all subscribers."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._data = b""

    def of(self, snapshot: Snapshot) -> bytes:
        """*snapshot* as one server-sent event."""
        if self._snapshot is not snapshot:
            self._data = b"data: " + dumps(to_wire(snapshot)) + b"\n\n"
            self._snapshot = snapshot
        return self._data


async def _events(service: Service, frame: Frame) -> AsyncGenerator[bytes, None]:
    service.watchers += 1
    try:
        async with aclosing(service.snapshots.subscribe()) as snapshots:
            async for snapshot in snapshots:
                yield frame.of(snapshot)
    finally:
        service.watchers -= 1
