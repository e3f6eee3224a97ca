"""What a client of the OpenAI-compatible API may send: every field taken, refused by name, or known to be harmless."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    WithJsonSchema,
)

from hwdash.core.errors import UsageError
from hwdash.core.inference import (
    AUTO,
    MAX_PROMPT_BYTES,
    MAX_SEED,
    MAX_TEMPERATURE,
    MAX_TOKENS,
    Message,
    PromptRequest,
)
from hwdash.core.text import sanitise_line
from hwdash.daemon.body import Name, problems_of, usage_error
from hwdash.daemon.bound import check_bound
from hwdash.daemon.requirement import WHOLE, RequirementBody

B = TypeVar("B", bound=BaseModel)
CHAT_TOKENS = 1024
"""The longest answer to a chat that does not say how long. (OpenAI: as long as the context; here that holds a device.)"""
COMPLETION_TOKENS = 16
"""The longest completion where the request does not say how long: OpenAI's own default."""
TEMPERATURE = 1.0
"""The temperature where the request names none: OpenAI's own default."""
_MAX_MESSAGES = 10_000


class _Body(BaseModel):
    # The checks are made at the first request: the daemon starts without them.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class HwdashBody(RequirementBody):
    """The field ``hwdash`` of a request: the requirement options, and the device to ask."""

    device: Name = AUTO


class TextPart(_Body):
    """A piece of a message's content."""

    type: Literal["text"]
    text: str


def _is_false(value: bool) -> bool:
    # Literal[False] would take 0 as well.
    if value:
        raise ValueError("must be false")
    return value


_Content = Annotated[
    Annotated[str, Tag("str")]
    | Annotated[list[TextPart], Field(max_length=_MAX_MESSAGES, fail_fast=True), Tag("list[part]")],
    Discriminator(lambda value: "list[part]" if isinstance(value, list) else "str"),
]
_Nothing = Annotated[list[Any], Field(max_length=0, fail_fast=True)] | None
_Zero = Annotated[int, Field(ge=0, le=0), WHOLE] | None
_NoPenalty = Annotated[float, Field(ge=0.0, le=0.0)] | None
_One = Annotated[int, Field(ge=1, le=1), WHOLE] | None
_Prompt = Annotated[str, Field(min_length=1)]
_No = Annotated[bool, AfterValidator(_is_false), WithJsonSchema({"type": "boolean", "const": False})]
_StopText = Annotated[str, Field(min_length=1, max_length=1024)]
_Stop = (
    Annotated[
        Annotated[_StopText, Tag("str")]
        | Annotated[list[_StopText], Field(max_length=16, fail_fast=True), Tag("list[str]")],
        Discriminator(lambda value: "list[str]" if isinstance(value, list) else "str"),
    ]
    | None
)


class ChatMessage(_Body):
    """One turn of a conversation. ``developer`` is the newer name of ``system``; ``name`` is read by nobody."""

    role: Literal["system", "developer", "user", "assistant"]
    content: _Content
    name: str | None = None
    refusal: str | None = None
    tool_calls: _Nothing = None
    function_call: None = None
    audio: None = None
    annotations: _Nothing = None

    def to_message(self) -> Message:
        """The turn as the engines know it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, text)


class StreamOptions(_Body):
    """How a stream is sent. ``include_obfuscation`` is read by nobody: nothing is padded here."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ResponseFormat(_Body):
    """The form of the answer; text is the only one."""

    type: Literal["text"]


class _GenerationBody(_Body):
    """What a chat and a completion have in common."""

    model: Name | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS), WHOLE] | None = None
    temperature: Annotated[float, Field(ge=0.0, le=MAX_TEMPERATURE)] | None = None
    top_p: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=MAX_SEED), WHOLE] | None = None
    stop: _Stop = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    hwdash: HwdashBody | None = None

    user: str | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None

    n: _One = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    presence_penalty: _NoPenalty = None
    frequency_penalty: _NoPenalty = None

    @property
    def wants_usage(self) -> bool:
        """The stream shall end with a chunk that counts tokens."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def _to_request(
        self, messages: tuple[Message, ...], field: str, max_tokens: int, default_model: str, *, template: bool
    ) -> PromptRequest:
        if sum(len(message.content.encode()) for message in messages) > MAX_PROMPT_BYTES:
            raise UsageError(f"{field}: the prompt is longer than 1 MiB; shorten it", param=field)
        temperature = TEMPERATURE if self.temperature is None else self.temperature
        hwdash = self.hwdash or HwdashBody()
        try:
            requirements = hwdash.to_requirements()
        except UsageError as error:
            raise UsageError(f"hwdash.{error.message}", param=f"hwdash.{error.param}") from None
        return PromptRequest(
            messages=messages,
            model=self.model or default_model,
            device=hwdash.device,
            max_tokens=max_tokens,
            # A nucleus of no width holds the likeliest token alone, which is greedy decoding.
            temperature=0.0 if self.top_p == 0.0 else temperature,
            top_p=self.top_p or 1.0,
            # The engines' seeds are not negative; a client's may be.
            seed=None if self.seed is None else self.seed & MAX_SEED,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            template=template,
            requirements=requirements,
        )


class ChatBody(_GenerationBody):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=_MAX_MESSAGES, fail_fast=True)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS), WHOLE] | None = None
    parallel_tool_calls: bool | None = None
    logprobs: _No | None = None
    top_logprobs: _Zero = None
    tools: _Nothing = None
    tool_choice: Literal["none"] | None = None
    functions: _Nothing = None
    function_call: Literal["none"] | None = None
    response_format: ResponseFormat | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1, fail_fast=True)] | None = None
    audio: None = None
    prediction: None = None
    web_search_options: None = None
    reasoning_effort: Literal["none"] | None = None
    verbosity: Literal["medium"] | None = None

    def to_request(self, default_model: str) -> PromptRequest:
        """The request, with *default_model* where none is named.

        Raises `UsageError` for a prompt longer than `MAX_PROMPT_BYTES` and for requirements that are none.
        """
        messages = tuple(message.to_message() for message in self.messages)
        limit = self.max_completion_tokens or self.max_tokens or CHAT_TOKENS
        return self._to_request(messages, "messages", limit, default_model, template=True)


class CompletionBody(_GenerationBody):
    """``POST /v1/completions``."""

    prompt: _Prompt | Annotated[list[_Prompt], Field(min_length=1, max_length=1, fail_fast=True)]
    logprobs: _Zero = None
    best_of: _One = None
    echo: _No | None = None
    suffix: Annotated[str, Field(max_length=0)] | None = None

    def to_request(self, default_model: str) -> PromptRequest:
        """The request, with *default_model* where none is named. Raises as `ChatBody.to_request`."""
        text = self.prompt if isinstance(self.prompt, str) else self.prompt[0]
        limit = self.max_tokens or COMPLETION_TOKENS
        return self._to_request((Message("user", text),), "prompt", limit, default_model, template=False)


_REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "tools": "no model here calls tools",
        "tool_choice": "no model here calls tools",
        "functions": "no model here calls functions",
        "function_call": "no model here calls functions",
        "tool_calls": "no model here calls tools",
        "logprobs": "log probabilities are not given",
        "top_logprobs": "log probabilities are not given",
        "logit_bias": "the odds of tokens cannot be changed",
        "presence_penalty": "there are no penalties, it must be 0",
        "frequency_penalty": "there are no penalties, it must be 0",
        "n": "one answer is made at a time, it must be 1",
        "best_of": "one answer is made at a time, it must be 1",
        "echo": "the prompt is not said back",
        "suffix": "text cannot be filled in before a suffix",
        "response_format": 'the answer is plain text, {"type": "text"}',
        "modalities": 'the answer is plain text, ["text"]',
        "audio": "there is no audio",
        "prediction": "predicted outputs are not used",
        "web_search_options": "nothing is searched",
        "reasoning_effort": "the effort of thinking cannot be set",
        "verbosity": "the length of answers is set by max_tokens",
        "content": 'must be a text or a list of {"type": "text", "text": …}; images, audio and files are not read',
        "prompt": "must be one text that is not empty; lists of tokens and several prompts are not taken",
    }
)
"""Fields that OpenAI's API knows, and why a value that asks for something is refused."""


def parse_openai_body(data: bytes, kind: type[B]) -> B:
    """A JSON text as a *kind*. Raises `UsageError` that names the first field at fault, as OpenAI's clients know it."""
    check_bound(data)
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise _usage_error(problems_of(error)) from None


def _usage_error(problems: Sequence[Any]) -> UsageError:
    first = problems[0]
    plain = usage_error(problems, item="[{}]")
    if first["type"] == "extra_forbidden":
        words = f"Unrecognized request argument supplied: {plain.param}"
        return UsageError(words, param=plain.param)
    if first["type"] == "missing":
        return UsageError(f"Missing required parameter: '{plain.param}'.", param=plain.param)
    names = [part for part in first["loc"] if isinstance(part, str) and part in _REFUSED]
    if names and first["loc"][0] != "hwdash":
        return UsageError(f"{sanitise_line(plain.param or names[0])}: {_REFUSED[names[0]]}", param=plain.param)
    return plain
