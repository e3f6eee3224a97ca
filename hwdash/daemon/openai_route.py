"""The OpenAI-compatible API: models, chats and completions over the same `Service` as every other prompt."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import TypeVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hwdash.core.errors import EngineError, HwdashError, UnknownModel, UsageError
from hwdash.core.inference import FinishedEvent, FinishReason, InferenceRecord, PromptRequest, TokenEvent
from hwdash.core.text import sanitise_line
from hwdash.daemon.body import read_bytes
from hwdash.daemon.openai_answer import Answer, ModelList, model_card
from hwdash.daemon.openai_body import ChatBody, CompletionBody, HwdashBody, parse_openai_body
from hwdash.daemon.openai_error import OpenaiStream
from hwdash.daemon.service import Service
from hwdash.daemon.stream import EVENT_STREAM, json_response

B = TypeVar("B", ChatBody, CompletionBody)

router = APIRouter(prefix="/v1")


class WrongContentType(UsageError):
    """The body is not said to be JSON."""

    http_status = 415
    code = "unsupported_media_type"


@router.get("/models")
async def models(request: Request) -> Response:
    """The models that can be asked: those of the store, and those that external servers offer."""
    service: Service = request.app.state.service
    created: int = request.app.state.created
    return json_response(ModelList("list", tuple(model_card(name, created) for name in await service.model_names())))


@router.get("/models/{name:path}")
async def model(request: Request, name: str) -> Response:
    """One model."""
    service: Service = request.app.state.service
    if name not in await service.model_names():
        raise UnknownModel(f"no model {sanitise_line(name)!r}; GET /v1/models lists those there are", param="model")
    return json_response(model_card(name, request.app.state.created))


@router.post("/chat/completions")
async def chat(request: Request) -> Response:
    """Answer a chat, whole or as a stream; closing the connection cancels it."""
    return _answer(request, await _read(request, ChatBody), chat=True)


@router.post("/completions")
async def completion(request: Request) -> Response:
    """Continue a text without a chat template, whole or as a stream; closing the connection cancels it."""
    return _answer(request, await _read(request, CompletionBody), chat=False)


async def _read(request: Request, kind: type[B]) -> B:
    # A web page can send a form or plain text to any address, but JSON only where it is allowed to.
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        shown = f"it is {sanitise_line(content_type, 60)!r}" if content_type else "there is none"
        raise WrongContentType(f"Content-Type must be application/json; {shown}", param="Content-Type")
    return parse_openai_body(await read_bytes(request), kind)


def _answer(request: Request, body: ChatBody | CompletionBody, *, chat: bool) -> Response:
    service: Service = request.app.state.service
    asked = body.to_request(service.default_model)
    answer = Answer(asked.model, chat, body.wants_usage)
    if body.stream:
        return OpenaiStream(_chunks(service, asked, answer), EVENT_STREAM, service.stopping)
    return OpenaiStream(_whole(service, asked, answer), "application/json", service.stopping)


async def _whole(service: Service, asked: PromptRequest, answer: Answer) -> AsyncGenerator[bytes, None]:
    texts: list[str] = []
    with _in_field_hwdash():
        async with aclosing(service.prompt(asked)) as events:
            async for event in events:
                if isinstance(event, TokenEvent):
                    texts.append(event.text)
                elif isinstance(event, FinishedEvent):
                    yield answer.whole("".join(texts), _finished(event.record))


async def _chunks(service: Service, asked: PromptRequest, answer: Answer) -> AsyncGenerator[bytes, None]:
    frame = answer.frame()
    # Goes out with the first token: until then an error can still have its own status.
    opening = answer.opening()
    with _in_field_hwdash():
        async with aclosing(service.prompt(asked)) as events:
            async for event in events:
                if isinstance(event, TokenEvent):
                    if chunk := opening + (frame.around(event.text) if event.text else b""):
                        yield chunk
                    opening = b""
                elif isinstance(event, FinishedEvent):
                    yield opening + answer.ending(_finished(event.record))


@contextmanager
def _in_field_hwdash() -> Iterator[None]:
    """Errors name the device and the requirements where these requests have them: below the field ``hwdash``."""
    try:
        yield
    except HwdashError as error:
        if error.param in HwdashBody.model_fields:
            error.param = f"hwdash.{error.param}"
        raise


def _finished(record: InferenceRecord) -> InferenceRecord:
    """*record* of an answer that came to its end. Raises `EngineError` for one that was broken off."""
    if record.finish_reason not in (FinishReason.STOP, FinishReason.LENGTH):
        raise EngineError(f"{record.device}: the answer was broken off: {record.error or record.finish_reason}")
    return record
