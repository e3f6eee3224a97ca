"""The OpenAPI document: every path with what it takes, what it answers, and with which errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from hwdash import __version__
from hwdash.core.wire import Json
from hwdash.daemon.document_schema import DURATION, FEATURES, KINDS, METRIC, SIZE, ref, schemas
from hwdash.daemon.stream import EVENT_STREAM, JSON_LINES

_JSON = "application/json"
_TEXT: Json = {"type": "string"}
_EVENTS: Json = {}
"""A stream of events has no schema as a whole; docs/api.md tells what each one holds."""
_RETRY_AFTER: Json = {"schema": {"type": "integer", "minimum": 1}}
_ERRORS: Mapping[int, str] = MappingProxyType(
    {
        400: "A field or parameter is wrong; the message names it.",
        401: "No bearer token, or one that is not known. Only over TCP.",
        403: "Not for this client: a daemon is not ended over TCP, and without a token it answers no web page. Only over TCP.",
        404: "There is no such device or model.",
        408: "The body was not complete after half a minute.",
        409: "The model's files are corrupt, unsafe or cannot be stored.",
        413: "The body is larger than 8 MiB.",
        415: "The body is compressed, or, on /v1/*, not said to be JSON.",
        421: "The name in the Host header is not one of this daemon. Only over TCP without tokens.",
        422: "No device satisfies the request; the message has the reason of each.",
        429: "Too many requests wait; try again after Retry-After seconds.",
        431: "The head of the request is larger than 16 KiB, or has more than 100 lines.",
        500: "The daemon failed; its log has the details.",
        503: "A worker or server failed, the daemon is starting or stopping, or all places for clients are taken.",
    }
)


@dataclass(frozen=True, slots=True)
class Operation:
    """What a path takes and answers: the content of the answer by media type, and the errors besides those of all paths.

    ``grammars`` are those of parameters that are texts with a form of their own.
    """

    content: Mapping[str, Json]
    body: str | None = None
    errors: tuple[int, ...] = ()
    status: int = 200
    also: Mapping[int, Json] = field(default_factory=dict)
    grammars: Mapping[str, Json] = field(default_factory=dict)


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _state(*words: str) -> Json:
    return _object(status={"enum": list(words)})


def _json(name: str) -> Mapping[str, Json]:
    return {_JSON: ref(name)}


_ALWAYS = (401, 403, 421, 431, 500, 503)
"""What every path can be answered with."""
_WITH_BODY = (408, 413, 415)
_ASKING = (400, 404, 409, 422, 429)
_LOOKING_BACK = (400, 404)
_SINCE: Mapping[str, Json] = MappingProxyType({"since": DURATION})

OPERATIONS: Mapping[tuple[str, str], Operation] = MappingProxyType(
    {
        ("GET", "/health"): Operation({_JSON: _state("ok")}),
        ("GET", "/ready"): Operation({_JSON: _state("ready")}, also={503: _state("starting")}),
        ("GET", "/openapi.json"): Operation({_JSON: {"type": "object"}}),
        ("GET", "/metrics"): Operation({"text/plain": _TEXT, "application/openmetrics-text": _TEXT}),
        ("GET", "/v1/models"): Operation(_json("ModelList")),
        ("GET", "/v1/models/{name}"): Operation(_json("ModelCard"), errors=(404,)),
        ("POST", "/v1/chat/completions"): Operation(
            {_JSON: ref("ChatCompletion"), EVENT_STREAM: _EVENTS}, "ChatBody", _ASKING
        ),
        ("POST", "/v1/completions"): Operation(
            {_JSON: ref("Completion"), EVENT_STREAM: _EVENTS}, "CompletionBody", _ASKING
        ),
        ("GET", "/api/v1/status"): Operation(_json("DaemonStatus"), errors=(400,)),
        ("GET", "/api/v1/devices"): Operation(
            {_JSON: _object(devices={"type": "array", "items": ref("Device")})}, errors=(400,)
        ),
        ("GET", "/api/v1/rank"): Operation(
            _json("Ranking"), errors=(400, 404, 409), grammars={"min_memory": SIZE, "require": FEATURES, "kind": KINDS}
        ),
        ("GET", "/api/v1/stream"): Operation({EVENT_STREAM: _EVENTS}, errors=(400,)),
        ("POST", "/api/v1/stop"): Operation({_JSON: _state("stopping")}, errors=(400,), status=202),
        ("POST", "/api/v1/prompt"): Operation({JSON_LINES: _TEXT}, "PromptBody", _ASKING),
        ("GET", "/api/v1/history/latency"): Operation(_json("LatencyHistory"), errors=_LOOKING_BACK, grammars=_SINCE),
        ("GET", "/api/v1/history/metrics"): Operation(
            _json("MetricHistory"), errors=_LOOKING_BACK, grammars={**_SINCE, "metric": METRIC}
        ),
        ("GET", "/api/v1/history/uptime"): Operation(_json("UptimeHistory"), errors=_LOOKING_BACK, grammars=_SINCE),
        ("POST", "/api/v1/probe"): Operation(_json("ProbeResult"), "ProbeBody", _ASKING),
        ("GET", "/api/v1/events"): Operation(_json("EventHistory"), errors=_LOOKING_BACK, grammars=_SINCE),
        ("GET", "/api/v1/models"): Operation(
            {_JSON: _object(models={"type": "array", "items": ref("ModelInfo")})}, errors=(400,)
        ),
        ("POST", "/api/v1/models/pull"): Operation({JSON_LINES: _TEXT}, "PullBody", (400, 404, 409)),
        ("DELETE", "/api/v1/models/{name}"): Operation({_JSON: _object(removed=_TEXT)}, errors=(400, 404, 409)),
        ("POST", "/api/v1/soak"): Operation({JSON_LINES: _TEXT}, "SoakBody", _ASKING),
        ("GET", "/api/v1/soak"): Operation(_json("SoakHistory"), errors=_LOOKING_BACK),
        ("POST", "/api/v1/bench"): Operation({JSON_LINES: _TEXT}, "BenchBody", _ASKING),
        ("GET", "/api/v1/bench"): Operation(_json("BenchHistory"), errors=_LOOKING_BACK),
        ("POST", "/api/v1/replay"): Operation(_json("ReplayState"), "ReplayBody", (400,)),
    }
)
"""By method and path. A path that is served and not here is a mistake that a test finds."""


def document(app: FastAPI) -> Json:
    """The OpenAPI document of *app*."""
    made: Json = get_openapi(
        title="hwdash",
        version=__version__,
        description="Every accelerator of a machine, which one to use and why, and prompts on it.",
        routes=app.routes,
    )
    for path, item in made["paths"].items():
        for method, found in item.items():
            _complete(found, OPERATIONS.get((method.upper(), path), Operation({})))
    made["components"] = {
        "schemas": schemas(),
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "Over TCP: `hwdash token`."}},
    }
    made["security"] = [{}, {"token": []}]
    return made


def _complete(found: Json, operation: Operation) -> None:
    """Write what *operation* takes and answers into *found*, which has the parameters from the code already."""
    for parameter in found.get("parameters", ()):
        schema = _in_query(parameter["schema"])
        parameter["schema"] = schema | operation.grammars.get(parameter["name"], {})
    if operation.body is not None:
        found["requestBody"] = {"required": True, "content": _content({_JSON: ref(operation.body)})}
    responses: Json = {str(operation.status): {"description": "Done.", "content": _content(operation.content)}}
    for status in sorted({*operation.errors, *_ALWAYS, *(_WITH_BODY if operation.body else ())}):
        answer = {"description": _ERRORS[status], "content": _content({_JSON: ref("Error")})}
        if status == 429:
            answer["headers"] = {"Retry-After": _RETRY_AFTER}
        if status == 503:
            answer["headers"] = {"Retry-After": {"description": "Where all places are taken."} | _RETRY_AFTER}
        responses[str(status)] = answer
    for status, schema in operation.also.items():
        answer = responses[str(status)]
        answer["content"] = _content({_JSON: {"anyOf": [schema, ref("Error")]}})
    found["responses"] = responses


def _in_query(schema: Json) -> Json:
    """*schema* without null: a parameter that is not there has no text."""
    present = [branch for branch in schema.get("anyOf", ()) if branch != {"type": "null"}]
    return present[0] if len(present) == 1 else schema


def _content(schemas_by_type: Mapping[str, Json]) -> dict[str, Any]:
    return {media: {"schema": schema} if schema else {} for media, schema in schemas_by_type.items()}
