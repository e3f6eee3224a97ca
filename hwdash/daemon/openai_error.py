"""Errors as OpenAI's API tells them, so that its client raises its own classes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from starlette.responses import Response

from hwdash.core.errors import HwdashError
from hwdash.core.wire import Json, dumps, error_to_wire
from hwdash.daemon.stream import EVENT_STREAM, Stream, error_response

_CODES: Mapping[str, str] = MappingProxyType(
    {
        "unknown_model": "model_not_found",
        "prompt_too_long": "context_length_exceeded",
        "overloaded": "rate_limit_exceeded",
        "unknown_path": "unknown_url",
        "usage": "invalid_value",
        "error": "internal_error",
    }
)
"""The names of errors in OpenAI's API where it has one."""
_TYPES: Mapping[int, str] = MappingProxyType({429: "rate_limit_error"})


def is_openai_path(path: str) -> bool:
    """Whether *path* belongs to the OpenAI-compatible API."""
    return path == "/v1" or path.startswith("/v1/")


def openai_error(error: HwdashError) -> Json:
    """*error* as the body of an answer, or of an event in a stream."""
    data = error_to_wire(error)
    told = data["error"]
    told["type"] = _TYPES.get(error.http_status, told["type"])
    told["code"] = _CODES.get(error.code, error.code)
    return data


def openai_refusal(error: HwdashError) -> Response:
    """*error* as an answer, with the status and headers that it has everywhere else."""
    response = error_response(error)
    response.body = dumps(openai_error(error))
    response.headers["content-length"] = str(len(response.body))
    return response


class OpenaiStream(Stream):
    """A stream whose errors have OpenAI's shape: an answer of their own before the first chunk, an event after it."""

    def refusal(self, error: HwdashError) -> Response:
        """What is answered in the place of the stream for an *error* before its first chunk."""
        return openai_refusal(error)

    def last_words(self, error: HwdashError) -> bytes:
        """The last event for an *error* after the first chunk."""
        return b"data: " + dumps(openai_error(error)) + b"\n\n" if self.media_type == EVENT_STREAM else b""
