"""``GET /metrics``."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hwdash.daemon.metric import Metrics
from hwdash.daemon.metric_format import accepts_gzip, choose_format

router = APIRouter()


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """All metrics, as Prometheus text or OpenMetrics, whichever the Accept header prefers."""
    source: Metrics = request.app.state.metrics
    wanted = choose_format(",".join(request.headers.getlist("accept")))
    zipped = accepts_gzip(",".join(request.headers.getlist("accept-encoding")))
    headers = {"Content-Type": wanted.content_type, "Vary": "Accept, Accept-Encoding"}
    if zipped:
        headers["Content-Encoding"] = "gzip"
    return Response(await source.text(openmetrics=wanted.openmetrics, zipped=zipped), headers=headers)
