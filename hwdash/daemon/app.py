"""The HTTP application: routes over a `Service`, and one shape for all errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hwdash.core.errors import HwdashError
from hwdash.core.text import sanitise_line
from hwdash.daemon import (
    metric_route,
    openai_route,
    routes_bench,
    routes_history,
    routes_model,
    routes_probe,
    routes_prompt,
    routes_rank,
    routes_replay,
    routes_soak,
    routes_watch,
)
from hwdash.daemon.body import check_query, usage_error
from hwdash.daemon.metric import Metrics
from hwdash.daemon.openai_answer import unix_time
from hwdash.daemon.openai_error import is_openai_path, openai_refusal
from hwdash.daemon.service import Service
from hwdash.daemon.stream import error_response, json_response

log = logging.getLogger(__name__)


def create_app(service: Service, stop: Callable[[], None]) -> FastAPI:
    """The application that answers for *service*; *stop* is called when a client asks the daemon to end."""
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(check_query)],
    )
    app.state.service = service
    app.state.stop = stop
    app.state.frame = routes_watch.Frame()
    app.state.created = unix_time()
    app.state.metrics = Metrics(service)
    for routes in (
        routes_watch,
        routes_prompt,
        routes_rank,
        routes_history,
        routes_model,
        routes_probe,
        routes_replay,
        routes_soak,
        routes_bench,
        openai_route,
        metric_route,
    ):
        app.include_router(routes.router)
    app.add_api_route("/openapi.json", _document, methods=["GET"])
    app.add_exception_handler(HwdashError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientDisconnect, _on_gone)
    app.add_exception_handler(Exception, _on_bug)
    return app


async def _document(request: Request) -> Response:
    """What all paths take and answer, as OpenAPI."""
    # Here, because the daemon starts without it.
    from hwdash.daemon.document import document

    return json_response(await asyncio.to_thread(document, request.app))


def _refusal(request: Request, error: HwdashError) -> Response:
    return openai_refusal(error) if is_openai_path(request.scope["path"]) else error_response(error)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HwdashError)
    return _refusal(request, error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _refusal(request, usage_error(error.errors()))


async def _on_http(request: Request, error: Exception) -> Response:
    """What the framework itself refuses: an unknown path, a wrong method."""
    assert isinstance(error, HTTPException)
    path = sanitise_line(request.url.path)
    messages = {404: f"no such path: {path}", 405: f"{path} does not take {sanitise_line(request.method, 20)}"}
    problem = HwdashError(messages.get(error.status_code, sanitise_line(str(error.detail))))
    problem.http_status = error.status_code
    problem.code = {404: "unknown_path", 405: "wrong_method"}.get(error.status_code, problem.code)
    response = _refusal(request, problem)
    response.headers.update(error.headers or {})
    return response


async def _on_gone(_: Request, error: Exception) -> Response:
    """The client left before its request was complete: nobody reads this answer."""
    return Response(status_code=400)


async def _on_bug(request: Request, error: Exception) -> Response:
    """The server logs *error* with its traceback; the client is told no more than that."""
    return _refusal(request, HwdashError("internal error; the daemon's log has the details"))
