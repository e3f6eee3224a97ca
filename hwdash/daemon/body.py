"""What a client may send: request bodies and query parameters, bounded and checked, with messages that name the field."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from hwdash.core.errors import UsageError
from hwdash.core.inference import (
    AUTO,
    MAX_PROMPT_BYTES,
    MAX_REQUEST_BYTES,
    MAX_SEED,
    MAX_TEMPERATURE,
    MAX_TOKENS,
    Message,
    PromptRequest,
)
from hwdash.core.replay import ReplayRequest
from hwdash.core.text import sanitise_line
from hwdash.daemon.bound import check_bound
from hwdash.daemon.requirement import WHOLE, RequirementBody

B = TypeVar("B", bound=BaseModel)
_NO_CONTROL = r"^[^\x00-\x1f\x7f-\x9f]+$"
BODY_S = 30.0
"""Seconds that a whole request body may take."""
MAX_TOLD = 100
"""Mistakes of a body that are looked at one by one; of more only their number is told."""
Name = Annotated[str, Field(min_length=1, max_length=512, pattern=_NO_CONTROL)]
# What pydantic puts in the place of a field for each branch of a union.
_BRANCH = re.compile(r"str|int|float|(constrained|function)-.*|list\[.*\]")


class BodyTooLarge(UsageError):
    """The request body is larger than `MAX_REQUEST_BYTES`."""

    http_status = 413


class BodyTooSlow(UsageError):
    """The request body did not come within `BODY_S`."""

    http_status = 408


class WrongEncoding(UsageError):
    """The request body is compressed."""

    http_status = 415
    code = "unsupported_media_type"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class MessageBody(_Body):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class PromptBody(_Body):
    """A prompt: either ``prompt`` or ``messages``."""

    prompt: str | None = None
    messages: Annotated[list[MessageBody], Field(min_length=1, max_length=10_000, fail_fast=True)] | None = None
    model: Name | None = None
    device: Name = AUTO
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS), WHOLE] = 256
    temperature: float = Field(0.0, ge=0.0, le=MAX_TEMPERATURE)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    seed: Annotated[int, Field(ge=0, le=MAX_SEED), WHOLE] | None = None
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=16, fail_fast=True)
    ] = []
    template: bool = True
    requirements: RequirementBody = RequirementBody()

    def to_request(self, default_model: str) -> PromptRequest:
        """The request, with *default_model* where none is named.

        Raises `UsageError` for a prompt that is missing, given twice, empty or longer than `MAX_PROMPT_BYTES`.
        """
        if (self.prompt is None) == (self.messages is None):
            raise UsageError("give either prompt or messages", param="prompt")
        field = "prompt" if self.messages is None else "messages"
        turns = self.messages or [MessageBody(role="user", content=self.prompt or "")]
        if not turns[-1].content.strip():
            raise UsageError(f"{field}: the prompt is empty", param=field)
        if sum(len(turn.content.encode()) for turn in turns) > MAX_PROMPT_BYTES:
            raise UsageError(f"{field}: the prompt is longer than 1 MiB; shorten it", param=field)
        return PromptRequest(
            messages=tuple(Message(turn.role, turn.content) for turn in turns),
            model=self.model or default_model,
            device=self.device,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=tuple(self.stop),
            template=self.template,
            requirements=self.requirements.to_requirements(),
        )


class PullBody(_Body):
    """A model to fetch."""

    model: Name


class ReplayBody(_Body):
    """What to change of a replay; what is left out stays as it is."""

    paused: bool | None = None
    seek_s: float | None = Field(None, allow_inf_nan=False)
    skip_s: float | None = Field(None, allow_inf_nan=False)
    speed: float | None = Field(None, allow_inf_nan=False)
    loop: bool | None = None

    def to_request(self) -> ReplayRequest:
        """The request."""
        return ReplayRequest(self.paused, self.seek_s, self.skip_s, self.speed, self.loop)


async def read_body(request: Request, kind: type[B]) -> B:
    """The JSON body of *request* as a *kind*, whatever its content type says.

    Raises `BodyTooLarge` and `BodyTooSlow` without reading on, and `UsageError` that names the first field at fault.
    """
    return parse_body(await read_bytes(request), kind)


async def read_bytes(request: Request) -> bytes:
    """The body of *request* as it came. Raises `BodyTooLarge`, `BodyTooSlow` and `WrongEncoding` without reading on."""
    encoding = request.headers.get("content-encoding", "")
    if encoding.strip().lower() not in ("", "identity"):
        shown = sanitise_line(encoding, 60)
        raise WrongEncoding(f"Content-Encoding is {shown!r}; send the body as it is", param="Content-Encoding")
    data = bytearray()
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MAX_REQUEST_BYTES:
        raise _too_large()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                data += chunk
                if len(data) > MAX_REQUEST_BYTES:
                    raise _too_large()
    except TimeoutError:
        raise BodyTooSlow(
            f"the request body was not complete after {BODY_S:g} s; send it faster", param="body"
        ) from None
    return bytes(data)


async def check_query(request: Request) -> None:
    """Raise `UsageError` for a query parameter that a path below ``/api/`` does not take, or that is given twice."""
    path = request.scope["path"]
    if not request.query_params or not path.startswith("/api/"):
        return
    known = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            shown = sanitise_line(name, 60)
            choices = f"there are: {', '.join(known)}" if known else "this path takes none"
            raise UsageError(f"{shown}: unknown query parameter; {choices}", param=shown)
        if len(request.query_params.getlist(name)) > 1:
            raise UsageError(f"{name}: given more than once; leave one of them out", param=name)


def parse_body(data: bytes, kind: type[B]) -> B:
    """A JSON text as a *kind*. Raises `UsageError` that names the first field at fault."""
    check_bound(data)
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise usage_error(problems_of(error)) from None


def problems_of(error: ValidationError) -> Sequence[Any]:
    """What *error* found, or, of more than `MAX_TOLD` mistakes, how many there are: each costs as much as a small page."""
    count = error.error_count()
    if count > MAX_TOLD:
        return [{"type": "too_many_mistakes", "loc": (), "msg": f"there are {count} mistakes in it"}]
    return error.errors(include_url=False, include_input=False)


def usage_error(problems: Sequence[Any], item: str = ".{}") -> UsageError:
    """The first of pydantic's *problems* as one line that names the field; *item* is how a place in a list is written."""
    first = problems[0]
    steps = [part for part in first["loc"] if part not in ("query", "path", "body")]
    named = first["type"] == "extra_forbidden"
    place = [
        step
        for number, step in enumerate(steps, start=1)
        if isinstance(step, int) or (named and number == len(steps)) or _BRANCH.fullmatch(step) is None
    ]
    path = "".join(item.format(step) if isinstance(step, int) else f".{step[:100]}" for step in place)
    field = sanitise_line(path.removeprefix("."), 60)
    return UsageError(f"{field or 'body'}: {_words(first)}", param=field or None)


def _words(problem: Any) -> str:
    """What is wrong, in our own words where pydantic's are about its checks and not about the field."""
    limits = problem.get("ctx", {})
    match problem["type"]:
        case "string_too_short" if limits.get("min_length") == 1:
            return "must not be empty"
        case "string_pattern_mismatch" if limits.get("pattern") == _NO_CONTROL:
            return "must be one line, without control characters"
        case "too_long" if "max_length" in limits:
            return f"at most {limits['max_length']} are taken"
    return sanitise_line(problem["msg"])


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"the request body is larger than {MAX_REQUEST_BYTES // 2**20} MiB; shorten it", param="body")
