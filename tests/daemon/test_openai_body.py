"""What the OpenAI-compatible API takes, and how it refuses the rest: by name, in OpenAI's shape, without harm."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.errors import UsageError
from hwdash.core.requirement import Policy
from hwdash.core.wire import dumps, loads
from hwdash.daemon.openai_body import CHAT_TOKENS, ChatBody, CompletionBody, parse_openai_body
from tests.daemon.living import Living, living

JSON = "Content-Type: application/json\r\n"
CHAT = "/v1/chat/completions"
ONE = {"messages": [{"role": "user", "content": "a"}]}


def problem_of(body: bytes, kind: type[ChatBody | CompletionBody] = ChatBody) -> UsageError:
    try:
        parse_openai_body(body, kind).to_request("default")
    except UsageError as problem:
        error = problem
    else:
        pytest.fail("it was taken")
    assert "\n" not in error.message
    assert len(error.message) < 400
    return error


async def refused(daemon: Living, body: bytes, headers: str = JSON, target: str = CHAT) -> tuple[int, dict[str, Any]]:
    status, head, answer = await daemon.ask("POST", target, body, headers)
    assert "content-type: application/json" in head
    error = loads(answer)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return status, error


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tool_choice", "auto"),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}),
        ("functions", [{"name": "f"}]),
        ("function_call", "auto"),
        ("response_format", {"type": "json_object"}),
        ("logprobs", True),
        ("logprobs", 0),
        ("top_logprobs", 3),
        ("logit_bias", {"50256": -100}),
        ("presence_penalty", 0.1),
        ("frequency_penalty", -0.1),
        ("n", 2),
        ("n", True),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy"}),
        ("prediction", {"type": "content", "content": "x"}),
        ("reasoning_effort", "high"),
        ("web_search_options", {}),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(field: str, value: object) -> None:
    error = problem_of(dumps(ONE | {field: value}))
    assert re.split(r"[.\[]", error.param or "")[0] == field
    assert field in error.message
    assert "Input should be" not in error.message


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [], "tool_choice": "none", "functions": None, "logprobs": False, "top_logprobs": 0, "n": 1},
        {"user": "me", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "parallel_tool_calls": True},
        {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "response_format": {"type": "text"}},
        {"temperature": None, "top_p": None, "seed": None, "stop": None, "max_tokens": None, "stream_options": None},
        {"model": None, "hwdash": None, "safety_identifier": "x", "prompt_cache_key": "x"},
    ],
)
def test_what_is_harmless_is_taken(fields: dict[str, object]) -> None:
    request = ChatBody.model_validate_json(dumps(ONE | fields)).to_request("default")
    assert (request.model, request.max_tokens, request.temperature, request.top_p) == ("default", CHAT_TOKENS, 1.0, 1.0)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"[]", None),
        (b"[" * 10_000, None),
        (b'{"messages":' + b"[" * 10_000, None),
        (dumps(ONE | {"hwdash": {"require": ["bf16", 5]}}), "hwdash.require[1]"),
        (dumps(ONE | {"metadata": {str(n): "x" for n in range(17)}}), "metadata"),
        (b'{"messages": "\xff"}', None),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', None),
        (b"{}", "messages"),
        (dumps({"messages": []}), "messages"),
        (dumps(ONE | {"tempreature": 1}), "tempreature"),
        (dumps(ONE | {"hwdash": {"devise": "gpu0"}}), "hwdash.devise"),
        (dumps(ONE | {"hwdash": {"min_memory": "x"}}), "hwdash.min_memory"),
        (dumps(ONE | {"hwdash": {"min_memory": 1.5}}), "hwdash.min_memory"),
        (dumps(ONE | {"hwdash": {"require": ["fp99"]}}), "hwdash.require"),
        (dumps(ONE | {"hwdash": {"policy": "best"}}), "hwdash.policy"),
        (dumps({"messages": [{"role": "tool", "content": "a"}]}), "messages[0].role"),
        (dumps({"messages": [{"role": "user"}]}), "messages[0].content"),
        (dumps({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}), "messages[0].content[0].type"),
        (dumps({"messages": [{"role": "user", "content": 5}]}), "messages[0].content"),
        (dumps(ONE | {"temperature": 2.1}), "temperature"),
        (dumps(ONE | {"stop": ["a"] * 17}), "stop"),
        (dumps(ONE | {"stop": ""}), "stop"),
        (dumps(ONE | {"seed": 2**63}), "seed"),
        (dumps(ONE | {"max_tokens": 0}), "max_tokens"),
        (dumps(ONE | {"max_tokens": 1.5}), "max_tokens"),
        (b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": ' + b"9" * 4000 + b"}", "max_tokens"),
        (b'{"messages": [{"role": "user", "content": "a"}], "temperature": NaN}', "temperature"),
        (b'{"messages": [{"role": "user", "content": "a"}], "top_p": 1e999}', "top_p"),
        (dumps(ONE | {"model": "a\nb"}), "model"),
        (dumps({"messages": [{"role": "user", "content": "x" * (2**20 + 1)}]}), "messages"),
    ],
)
def test_the_field_at_fault_is_named(body: bytes, param: str | None) -> None:
    assert problem_of(body).param == param


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"stop": ["a"] * 17}, "stop: at most 16 are taken"),
        ({"stop": ["a", ""]}, "stop[1]: must not be empty"),
        ({"stop": 5}, "stop: Input should be a valid string"),
        ({"model": ""}, "model: must not be empty"),
        ({"model": "a\nb"}, "model: must be one line, without control characters"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata: at most 16 are taken"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(fields: dict[str, object], words: str) -> None:
    assert problem_of(dumps(ONE | fields)).message == words


async def test_a_device_is_looked_for_below_the_field_hwdash() -> None:
    async with living() as daemon:
        for stream in (False, True):
            fields = {"hwdash": {"device": "gpu99"}, "model": "fake", "stream": stream}
            status, error = await refused(daemon, dumps(ONE | fields))
            assert (status, error["param"]) == (404, "hwdash.device")


async def test_a_compressed_body_is_refused() -> None:
    async with living() as daemon:
        for target in (CHAT, "/api/v1/prompt"):
            status, error = await refused(daemon, b"x", f"{JSON}Content-Encoding: gzip\r\n", target)
            assert (status, error["param"]) == (415, "Content-Encoding")
        status, error = await refused(daemon, b"{}", f"{JSON}Content-Encoding: identity\r\n")
        assert (status, error["param"]) == (400, "messages")


@pytest.mark.parametrize(
    "prompt",
    [None, "", [], ["a", "b"], [1, 2], [[1, 2]], 7, [""]],
    ids=["null", "", "[]", "2", "ids", "batch", "7", "e"],
)
def test_a_completion_continues_one_text(prompt: object) -> None:
    error = problem_of(dumps({"prompt": prompt}), CompletionBody)
    assert (error.param or "").startswith("prompt")
    for field, value in (("echo", True), ("suffix", "x"), ("best_of", 2), ("logprobs", 5)):
        assert problem_of(dumps({"prompt": "a", field: value}), CompletionBody).param == field


def test_requirements_reach_the_request() -> None:
    options = {"device": "gpu0", "require": "bf16,cc8.9", "max_power": 300, "policy": "latency", "min_memory": 5.0}
    request = ChatBody.model_validate_json(dumps(ONE | {"hwdash": options})).to_request("m")
    assert request.device == "gpu0"
    assert request.requirements.features == ("bf16", "cc8.9")
    assert (request.requirements.max_power_w, request.requirements.min_memory_bytes) == (300.0, 5)
    assert request.requirements.policy is Policy.LATENCY


def test_of_a_key_that_is_there_twice_the_last_one_counts() -> None:
    body = ChatBody.model_validate_json(
        b'{"messages": [], "messages": [{"role": "user", "content": "a"}], "seed": 1.0}'
    )
    assert body.to_request("m").seed == 1


def test_a_nucleus_of_no_width_is_greedy() -> None:
    request = ChatBody.model_validate_json(dumps(ONE | {"top_p": 0})).to_request("m")
    assert (request.temperature, request.top_p) == (0.0, 1.0)


_NAMES = sorted({*ChatBody.model_fields, *CompletionBody.model_fields, "role", "content", "type", "text", "device"})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(_NAMES) | st.text(), inner),
    ),
    st.sampled_from([ChatBody, CompletionBody]),
)
def test_no_body_breaks_the_checks(value: object, kind: type[ChatBody | CompletionBody]) -> None:
    for body in (value, ONE | {"prompt": "a"} | (value if isinstance(value, dict) else {})):
        try:
            request = parse_openai_body(dumps(body), kind).to_request("m")
        except UsageError as error:
            assert error.message
        else:
            assert request.messages


@pytest.mark.parametrize(
    "headers", ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"]
)
async def test_a_body_has_to_be_said_to_be_json(headers: str) -> None:
    async with living() as daemon:
        await daemon.client.snapshot()
        assert (await refused(daemon, dumps(ONE), headers))[0] == 415
        status, _, _ = await daemon.ask("POST", CHAT, dumps(ONE), "Content-Type: Application/JSON; charset=utf-8\r\n")
        assert status == 200


async def test_errors_before_the_routes_have_openais_shape_too() -> None:
    async with living() as daemon:
        await daemon.client.snapshot()
        status, error = await refused(daemon, b"{}", target="/v1/none")
        assert (status, error["code"]) == (404, "unknown_url")
        status, head, body = await daemon.ask("GET", CHAT)
        assert (status, loads(body)["error"]["type"]) == (405, "invalid_request_error")
        assert "allow: post" in head
        status, error = await refused(daemon, b"{" * 3)
        assert (status, error["type"]) == (400, "invalid_request_error")
        status, error = await refused(daemon, b"", f"{JSON}Content-Length: 104857600\r\n")
        assert status == 413
        status, _, _ = await daemon.ask("GET", "/v1/models?api-version=1")
        assert status == 200


@pytest.mark.parametrize(
    "noise",
    [
        b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n{}\r\n",
        b"Transfer-Encoding: gzip\r\n\r\n{}",
        b"Content-Length: -1\r\n\r\n{}",
        b"Content-Length: 99999999999999999999999\r\n\r\n{}",
        b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"X-Noise: \x00\xff\r\n\r\n",
        b"X: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_nonsense_around_a_body_does_no_harm(noise: bytes) -> None:
    async with living() as daemon:
        await daemon.client.snapshot()
        reader, writer = await asyncio.open_unix_connection(daemon.socket)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + noise)
        answer = b""
        with suppress(OSError):
            writer.write_eof()
            answer = await reader.read()
        writer.transport.abort()
        assert not answer or int(answer.split()[1]) in range(400, 500)
        assert (await daemon.ask("POST", CHAT, dumps(ONE), JSON))[0] == 200


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with living() as daemon:
        _, writer = await asyncio.open_unix_connection(daemon.socket)
        writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n{JSON}Content-Length: 100\r\n\r\n{{".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await daemon.ask("GET", "/v1/models"))[0] == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_events_of_a_stream_on_the_wire() -> None:
    async with living() as daemon:
        await daemon.client.snapshot()
        status, head, body = await daemon.ask("POST", CHAT, dumps(ONE | {"stream": True}), JSON)
        assert status == 200
        assert "content-type: text/event-stream" in head
        lines = [line for line in body.decode().splitlines() if line.startswith("data: ")]
        assert lines[-1] == "data: [DONE]"
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        assert chunks[1]["choices"][0] == {
            "index": 0,
            "delta": {"content": "a"},
            "logprobs": None,
            "finish_reason": None,
        }
        assert chunks[-1]["choices"][0]["delta"] == {}
        wanted = {"stream": True, "stream_options": {"include_usage": True}}
        _, _, body = await daemon.ask("POST", CHAT, dumps(ONE | wanted), JSON)
        lines = [line for line in body.decode().splitlines() if line.startswith("data: ")]
        assert lines[-1] == "data: [DONE]"
        assert lines.count("data: [DONE]") == 1
        assert json.loads(lines[-2].removeprefix("data: "))["usage"]["total_tokens"] > 0
