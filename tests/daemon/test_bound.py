"""What a client writes costs no more than its size: bodies of very many values, and of very many mistakes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from hwdash.core.errors import UsageError
from hwdash.core.wire import dumps, loads
from hwdash.daemon.body import MAX_TOLD, PromptBody, PullBody, ReplayBody, parse_body, problems_of
from hwdash.daemon.bound import MAX_VALUES, check_bound
from hwdash.daemon.openai_body import ChatBody, CompletionBody, parse_openai_body
from tests.daemon.living import living

TURN = {"role": "user", "content": "a"}
ONE = {"messages": [TURN]}
KINDS: tuple[type[BaseModel], ...] = (ChatBody, CompletionBody, PromptBody, PullBody, ReplayBody)
MANY = {f"k{number}": 1 for number in range(20_000)}


def mistakes(body: object, kind: type[BaseModel]) -> int:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate_json(dumps(body))
    return caught.value.error_count()


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [1] * 9000},
        {"messages": [{"role": "user", "content": [1] * 9000}] * 3},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}] * 9000}]},
        {"messages": [{"role": "user", "content": "a", "tool_calls": [1] * 9000}]},
        ONE | {"tools": [1] * 9000},
        ONE | {"modalities": [1] * 9000},
        ONE | {"stop": [1] * 9000},
        ONE | {"hwdash": {"require": [1] * 9000}},
        ONE | {"hwdash": {"kind": [1] * 9000}},
    ],
)
def test_a_list_is_left_at_its_first_mistake(body: object) -> None:
    assert mistakes(body, ChatBody) <= 2


def test_lists_of_the_other_bodies_are_left_too() -> None:
    assert mistakes({"prompt": [1] * 9000}, CompletionBody) <= 2
    assert mistakes({"messages": [1] * 9000}, PromptBody) == 1
    assert mistakes({"prompt": "a", "stop": [1] * 9000}, PromptBody) == 1
    assert mistakes({"prompt": "a", "requirements": {"kind": [1] * 9000}}, PromptBody) <= 2


@pytest.mark.parametrize(
    "body",
    [
        MANY,
        ONE | MANY,
        {"messages": [TURN | MANY]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"} | MANY]}]},
        ONE | {"metadata": MANY},
        ONE | {"hwdash": MANY},
        {"prompt": "a", "requirements": MANY},
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_very_many_mistakes_are_counted_and_not_told(body: object, kind: type[BaseModel]) -> None:
    try:
        kind.model_validate_json(dumps(body))
    except ValidationError as error:
        assert len(problems_of(error)) <= MAX_TOLD
    with pytest.raises(UsageError) as caught:
        parse_openai_body(dumps(body), kind) if issubclass(kind, ChatBody | CompletionBody) else parse_body(
            dumps(body), kind
        )
    assert len(caught.value.message) < 400


def test_how_many_mistakes_there_are_is_said() -> None:
    with pytest.raises(UsageError, match="body: there are 20000 mistakes in it") as caught:
        parse_openai_body(dumps(ONE | MANY), ChatBody)
    assert caught.value.param is None
    with pytest.raises(UsageError, match="body: there are 20000 mistakes in it"):
        parse_body(dumps({"prompt": "a"} | MANY), PromptBody)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 8_000_000,
        b'{"a":' * 1_000_000,
        b'{"prompt":[' + b"1," * 1_000_000 + b"1]}",
        b"{" + b",".join(b'"%x":1' % number for number in range(100_000)) + b"}",
        b'{"messages":[{"role":"user","content":[' + b",".join([b'{"type":"text","text":""}'] * 40_000) + b"]}]}",
        b'{"messages":[' + b",".join([b'{"role":"user","content":"\\\\\\""}'] * 40_000) + b"]}",
        b'{"a":"' + b'","' * 300_000,
    ],
)
def test_a_body_of_too_many_values_is_not_read(body: bytes, kind: type[BaseModel]) -> None:
    with pytest.raises(UsageError, match=f"more than {MAX_VALUES} values") as caught:
        parse_openai_body(body, kind) if issubclass(kind, ChatBody | CompletionBody) else parse_body(body, kind)
    assert caught.value.param == "body"


def test_the_largest_conversation_and_the_strangest_text_are_taken() -> None:
    turn: Any = {"role": "user", "content": [{"type": "text", "text": "a"}]}
    assert len(parse_openai_body(dumps({"messages": [turn] * 10_000}), ChatBody).messages) == 10_000
    text = '[{,\\"' * 100_000
    assert parse_openai_body(dumps({"prompt": text}), CompletionBody).prompt == text
    assert parse_body(dumps({"prompt": text}), PromptBody).prompt == text


@given(st.lists(st.text(st.sampled_from('"\\,[{a'), max_size=6), max_size=6), st.integers(0, 6))
@settings(deadline=None, max_examples=40)
def test_marks_within_a_text_do_not_count(texts: list[str], more: int) -> None:
    value = [*texts, *([{"a": texts}] * more)]
    filler = [0] * (MAX_VALUES - 1)
    outside = sum(
        1 for letter in json.dumps([["x"] * len(texts), [{"a": ["x"] * len(texts)}] * more]) if letter in ",[{"
    )
    room = filler[: MAX_VALUES - outside - 3]
    check_bound(dumps([value, room]))
    with pytest.raises(UsageError):
        check_bound(dumps([value, filler]))


async def test_one_bad_body_is_one_line_on_every_path() -> None:
    async with living() as daemon:
        await daemon.client.snapshot()
        body = b"{" + b",".join(b'"%x":1' % number for number in range(700_000)) + b"}"
        json_type = "Content-Type: application/json\r\n"
        for path in (
            "/v1/chat/completions",
            "/v1/completions",
            "/api/v1/prompt",
            "/api/v1/models/pull",
            "/api/v1/replay",
        ):
            status, _, answer = await daemon.ask("POST", path, body, json_type)
            assert status == 400
            assert str(MAX_VALUES) in loads(answer)["error"]["message"]


def test_a_long_name_of_a_field_is_cut_before_it_is_looked_at() -> None:
    body = dumps(ONE | {"\x01" * 100_000: 1})
    with pytest.raises(UsageError) as caught:
        parse_openai_body(body, ChatBody)
    assert len(caught.value.message) < 400
