"""The OpenAI-compatible API as OpenAI's own client sees it, over TCP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from hwdash.core.device import Device
from hwdash.core.errors import HwdashError, ModelError, NoSuitableDevice, Overloaded, PromptTooLong, WorkerDied
from hwdash.core.inference import EngineEvent, Generation, PromptRequest, TokenCounts
from hwdash.daemon.token import TokenFile
from hwdash.engine.fake import FakeEngine
from tests.daemon.fake_models import MODEL
from tests.daemon.living import until
from tests.daemon.openai_harness import answering

T = TypeVar("T")
HELLO: Any = [{"role": "user", "content": "one two three"}]


async def asked(url: str, question: Callable[[openai.OpenAI], T], retries: int = 0) -> T:
    """What the client that blocks answers to *question*."""

    def ask() -> T:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=retries, timeout=30) as client:
            return question(client)

    return await asyncio.to_thread(ask)


def talking(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30)


async def test_a_chat_in_one_piece() -> None:
    async with answering() as (_, url):
        answer = await asked(url, lambda client: client.chat.completions.create(model=MODEL, messages=HELLO))
        choice = answer.choices[0]
        assert answer.id.startswith("chatcmpl-")
        assert answer.object == "chat.completion"
        assert answer.model == MODEL
        assert (answer.system_fingerprint or "").startswith("hwdash-")
        assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
        assert (choice.message.role, choice.message.content, choice.message.refusal) == (
            "assistant",
            "one two three",
            None,
        )
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 3, 6)


async def test_the_answer_tells_what_hwdash_prompt_tells() -> None:
    async with answering() as (_, url):
        answer = await asked(
            url,
            lambda client: client.chat.completions.create(
                model=MODEL,
                messages=HELLO,
                extra_body={"hwdash": {"device": "gpu0", "kind": ["gpu"], "min_memory": "1GiB"}},
            ),
        )
        told = (answer.model_extra or {})["hwdash"]
        assert told["device"] == "gpu0"
        assert told["route"]["requested"] == "gpu0"
        assert told["tokens"] == {"prompt": 3, "completion": 3}
        assert told["timing"]["ttft_s"] > 0
        assert "energy" in told
        assert "throttle" in told["conditions"]
        assert "text" not in told


async def test_a_chat_as_a_stream() -> None:
    async with answering() as (_, url):

        def read(client: openai.OpenAI) -> list[ChatCompletionChunk]:
            return list(
                client.chat.completions.create(
                    model=MODEL, messages=HELLO, max_tokens=2, stream=True, stream_options={"include_usage": True}
                )
            )

        chunks = await asked(url, read)
        *_, last, counts = chunks
        assert chunks[0].choices[0].delta.role == "assistant"
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "one two"
        assert {chunk.id for chunk in chunks} == {counts.id}
        assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["length"]
        assert last.model_extra == {}
        assert counts.choices == []
        assert counts.usage is not None
        assert counts.usage.total_tokens == 5
        assert (counts.model_extra or {})["hwdash"]["device"] == "gpu0"


async def test_a_prompt_that_nobody_counted_has_no_usage() -> None:
    class Uncounted(FakeEngine):
        async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent]:
            async for event in super().generate(request, device):
                yield replace(event, tokens=TokenCounts(None, 3)) if isinstance(event, Generation) else event

    async with answering(Uncounted()) as (_, url), talking(url) as client:
        answer = await client.chat.completions.create(model=MODEL, messages=HELLO)
        assert answer.usage is None
        assert (answer.model_extra or {})["hwdash"]["tokens"] == {"prompt": None, "completion": 3}
        stream = await client.chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        *_, counts = [chunk async for chunk in stream]
        assert (counts.choices, counts.usage) == ([], None)
        assert (counts.model_extra or {})["hwdash"]["tokens"]["completion"] == 3


async def test_without_the_counts_the_last_chunk_tells_the_rest() -> None:
    async with answering() as (_, url), talking(url) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert chunks[-1].usage is None
        assert (chunks[-1].model_extra or {})["hwdash"]["finish_reason"] == "stop"


async def test_completions_whole_and_as_a_stream() -> None:
    async with answering() as (_, url), talking(url) as client:
        whole = await client.completions.create(model=MODEL, prompt="a b c", stop=["x"], seed=7)
        assert (whole.object, whole.choices[0].text, whole.choices[0].finish_reason) == (
            "text_completion",
            "a b c",
            "stop",
        )
        assert whole.id.startswith("cmpl-")
        stream = await client.completions.create(model=MODEL, prompt="a b c", stream=True)
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].text for chunk in chunks) == "a b c"
        assert chunks[-1].choices[0].finish_reason == "stop"


async def test_what_was_asked_for_reaches_the_engine() -> None:
    engine = FakeEngine()
    async with answering(engine) as (daemon, url), talking(url) as client:
        await client.chat.completions.create(
            model="some/model",
            messages=[
                {"role": "developer", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": " b"}]},
            ],
            max_completion_tokens=7,
            temperature=0.5,
            top_p=0.9,
            seed=-1,
            stop="x",
        )
        request = engine.requests[-1]
        assert [(message.role, message.content) for message in request.messages] == [
            ("system", "be brief"),
            ("user", "a b"),
        ]
        assert (request.model, request.max_tokens, request.temperature, request.top_p) == ("some/model", 7, 0.5, 0.9)
        assert (request.stop, request.seed, request.template) == (("x",), 2**63 - 1, True)
        await client.completions.create(model="x", prompt="a")
        assert (engine.requests[-1].max_tokens, engine.requests[-1].temperature) == (16, 1.0)
        assert not engine.requests[-1].template
        await client.post("/chat/completions", body={"messages": HELLO}, cast_to=object)
        assert engine.requests[-1].model == daemon.service.default_model


async def test_an_answer_can_be_sent_back_as_a_turn() -> None:
    async with answering() as (_, url), talking(url) as client:
        first = await client.chat.completions.create(model=MODEL, messages=HELLO)
        again: Any = [*HELLO, first.choices[0].message, {"role": "user", "content": "and?"}]
        assert (await client.chat.completions.create(model=MODEL, messages=again)).choices[0].message.content == "and?"


async def test_models() -> None:
    class Serving(FakeEngine):
        def served(self) -> list[str]:
            return ["org/served", MODEL]

    async with answering(Serving()) as (_, url), talking(url) as client:
        assert [model.id async for model in client.models.list()] == [MODEL, "org/served"]
        found = await client.models.retrieve("org/served")
        assert (found.id, found.object, found.owned_by) == ("org/served", "model", "hwdash")
        assert found.created > 1_700_000_000
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve("org/none")
        assert caught.value.code == "model_not_found"


async def test_a_stream_that_is_closed_ends_the_work() -> None:
    engine = FakeEngine(delay_s=0.02)
    long: Any = [{"role": "user", "content": "word " * 5000}]
    async with answering(engine) as (_, url):

        def leave(client: openai.OpenAI) -> None:
            stream = client.chat.completions.create(model=MODEL, messages=long, stream=True)
            next(iter(stream))
            stream.close()

        await asked(url, leave)
        await until(lambda: engine.cancelled == 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_the_first_token_ends_the_work(stream: bool) -> None:
    engine = FakeEngine(delay_s=3600)
    async with answering(engine) as (_, url), talking(url) as client:
        work = asyncio.create_task(
            client.post("/chat/completions", body={"messages": HELLO, "stream": stream}, cast_to=object)
        )
        await until(lambda: bool(engine.requests))
        work.cancel()
        await until(lambda: engine.cancelled == 1)


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (Overloaded("gpu0: 32 requests wait"), openai.RateLimitError, "rate_limit_exceeded"),
        (NoSuitableDevice("no device: gpu0 is hot"), openai.UnprocessableEntityError, "no_device"),
        (PromptTooLong("the prompt has 9 tokens"), openai.BadRequestError, "context_length_exceeded"),
        (ModelError("weights are cut off"), openai.ConflictError, "model"),
        (WorkerDied("gpu0: the worker died"), openai.InternalServerError, "worker_died"),
        (HwdashError("gpu0: internal error"), openai.InternalServerError, "internal_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_are_the_clients_own_classes(
    error: HwdashError, kind: type[openai.APIStatusError], told: str, stream: bool
) -> None:
    async with answering(FakeEngine(failure=error)) as (_, url), talking(url) as client:
        with pytest.raises(kind) as caught:
            await client.post("/chat/completions", body={"messages": HELLO, "stream": stream}, cast_to=object)
        assert caught.value.code == told
        assert error.message.split(":")[-1] in caught.value.message


async def test_a_queue_that_is_full_says_when_to_come_back() -> None:
    engine = FakeEngine(failure=Overloaded("gpu0: 32 requests wait", retry_after_s=3.0))
    async with answering(engine) as (_, url), talking(url) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
        assert caught.value.type == "rate_limit_error"
        assert int(caught.value.response.headers["retry-after"]) >= 1


async def test_a_token_is_the_api_key(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "s" / "tokens.json")
    secret, _ = tokens.create()
    async with answering(tokens=tokens) as (_, url), talking(url) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.models.list()
        assert (caught.value.type, caught.value.code) == ("invalid_request_error", "invalid_api_key")
        answer = await client.with_options(api_key=secret).chat.completions.create(model=MODEL, messages=HELLO)
        assert answer.choices[0].message.content == "one two three"


async def test_an_unknown_model_and_device() -> None:
    engine = FakeEngine()
    engine.unknown.add("nope")
    async with answering(engine) as (_, url), talking(url) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="nope", messages=HELLO)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.NotFoundError, match="no device 'gpu9'"):
            await client.completions.create(model=MODEL, prompt="a", extra_body={"hwdash": {"device": "gpu9"}})
        with pytest.raises(openai.UnprocessableEntityError, match="gpu0"):
            await client.completions.create(model=MODEL, prompt="a", extra_body={"hwdash": {"kind": ["npu"]}})


async def test_an_error_midway_is_the_clients_error_too() -> None:
    engine = FakeEngine(failure=WorkerDied("gpu0: the worker died"), fail_after=1)
    async with answering(engine) as (_, url), talking(url) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match="the worker died") as caught:
            async for _ in stream:
                pass
        assert caught.value.code == "worker_died"


async def test_a_stopping_daemon_tells_its_streams() -> None:
    engine = FakeEngine(delay_s=0.01)
    long: Any = [{"role": "user", "content": "word " * 5000}]
    async with answering(engine) as (daemon, url), talking(url) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=long, max_tokens=5000, stream=True)
        await anext(aiter(stream))
        daemon.service.stopping.set()
        with pytest.raises(openai.APIError, match="the daemon is stopping"):
            [chunk async for chunk in stream]
        assert engine.cancelled == 1


async def test_a_bug_is_one_line_for_the_client() -> None:
    class Buggy(FakeEngine):
        async def generate(self, request: PromptRequest, device: Device) -> AsyncGenerator[EngineEvent]:
            for event in list[EngineEvent]():
                yield event
            raise KeyError("secret")

    async with answering(Buggy()) as (_, url), talking(url) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model=MODEL, messages=HELLO)
        assert "secret" not in caught.value.message


async def test_headers_can_be_read() -> None:
    async with answering() as (_, url), talking(url) as client:
        raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
        assert raw.status_code == 200
        assert raw.headers["content-type"] == "application/json"
        assert raw.headers["cache-control"] == "no-store"
        assert raw.parse().choices[0].message.content == "one two three"


async def test_many_clients_at_once() -> None:
    async with answering(FakeEngine(delay_s=0.001)) as (_, url), talking(url) as client:

        async def one(number: int) -> str | None:
            messages: Any = [{"role": "user", "content": f"client {number}"}]
            answer = await client.chat.completions.create(model=MODEL, messages=messages)
            return answer.choices[0].message.content

        assert await asyncio.gather(*(one(number) for number in range(16))) == [f"client {n}" for n in range(16)]
