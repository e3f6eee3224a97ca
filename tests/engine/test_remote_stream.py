"""Server-sent events and chunks, as bytes cut anywhere."""

from __future__ import annotations

import contextlib
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.engine.remote_stream import MAX_EVENT_BYTES, BadStream, Chunk, EventStream, error_words, read_chunk


def events(*pieces: bytes) -> list[bytes]:
    stream = EventStream()
    return [*(data for piece in pieces for data in stream.feed(piece)), *stream.end()]


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"", b"data", b"data:", b"data: [DONE]", b": comment", b"event: x", b"id: 3", b"\xef\xbb\xbf"]
        ),
        st.binary(max_size=12).map(lambda value: b"data: " + value),
        st.binary(max_size=12),
    ),
    max_size=12,
)
BREAKS = st.lists(st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b""]), min_size=12, max_size=12)


@given(LINES, BREAKS, st.lists(st.integers(0, 300), max_size=20))
def test_events_do_not_depend_on_how_the_bytes_were_cut(
    lines: list[bytes], breaks: list[bytes], cuts: list[int]
) -> None:
    whole = b"".join(line + end for line, end in zip(lines, breaks, strict=False))
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    assert events(*(whole[start:stop] for start, stop in pairwise(places))) == events(whole)
    assert events(*(whole[at : at + 1] for at in range(len(whole)))) == events(whole)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"data: a\n\ndata:b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [b"a", b"b", b"c"]),
        (b": ping\n\nevent: x\nid: 1\ndata: a\ndata: b\n\n", [b"a\nb"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\n\ndata: last\n", [b"a", b"last"]),
        (b"data: a\n\ndata: hal", [b"a"]),
        (b"data\n\n", [b""]),
        (b"nothing of the kind", []),
    ],
)
def test_events(text: bytes, found: list[bytes]) -> None:
    assert events(text) == found


def test_an_endless_line_or_event_is_refused() -> None:
    with pytest.raises(BadStream, match=str(MAX_EVENT_BYTES)):
        events(b"data: ", *[b"x" * 65536] * 160)
    with pytest.raises(BadStream, match=str(MAX_EVENT_BYTES)):
        events(*[b"data: " + b"x" * 65536 + b"\n"] * 160)
    assert len(events(b"data: " + b"x" * (MAX_EVENT_BYTES - 100) + b"\n\n")[0]) == MAX_EVENT_BYTES - 100


def chunk(**data: object) -> Chunk | None:
    return read_chunk(json.dumps(data).encode())


def test_chunks_in_all_their_forms() -> None:
    assert read_chunk(b" [DONE]") is None
    assert chunk(choices=[{"delta": {"content": "a"}}]) == Chunk("a")
    assert chunk(choices=[{"index": None, "delta": {"content": None, "role": "assistant"}}]) == Chunk()
    assert chunk(choices=[{"text": "a", "finish_reason": "length"}]) == Chunk("a", "length")
    assert chunk(choices=[{"delta": {"reasoning_content": "think"}}]) == Chunk("think")
    assert chunk(choices=[{"delta": {"reasoning": "think", "content": ""}}]) == Chunk("think")
    assert chunk(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 4}) == Chunk("", None, 3, 4)
    assert chunk(usage={"prompt_tokens": -1, "completion_tokens": 10**12}) == Chunk()
    assert chunk(choices=[{"index": 1, "delta": {"content": "other"}}]) == Chunk()
    assert chunk(error={"message": "broken", "code": 400}) == Chunk(error="broken", status=400)
    assert chunk(error="broken") == Chunk(error="broken")
    assert chunk(error={"code": 1}) == Chunk(error="an error without words", status=1)
    assert chunk(object="error", message="broken", code=404) == Chunk(error="broken", status=404)
    assert chunk() == Chunk()
    assert chunk(choices=[{"delta": {"content": "half \ud83d"}}]) == Chunk("half \ud83d")
    assert chunk(choices=[{"delta": {"content": ["x", {"text": "a"}, {"text": 3}, {"text": "b"}]}}]) == Chunk("ab")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"[]",
        b"3",
        b'"text"',
        b"\xff\xfe",
        b'{"choices": 3}',
        b'{"choices": [{"delta": {"content": 5}}]}',
        b'{"choices": [{"delta": {"content": "half',
        b'{"usage": {"completion_tokens": "many"}}',
        b'{"choices": ' + b"[" * 100_000,
        b'{"usage": ' + b'{"a":' * 100_000,
    ],
)
def test_nonsense_is_told_as_such(data: bytes) -> None:
    with pytest.raises(BadStream):
        read_chunk(data)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["choices", "delta", "content", "error", "usage", "text", "message", "code"]), inner)))  # fmt: skip
def test_any_json_is_a_chunk_or_nonsense(data: object) -> None:
    with contextlib.suppress(BadStream):
        read_chunk(json.dumps(data).encode())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "a"}}, "a"),
        ({"error": "a"}, "a"),
        ({"detail": "a"}, "a"),
        ({"detail": [{"loc": ["body"], "msg": "a"}]}, "a"),
        ({"message": "a\x1b[31m\nb"}, "a\ufffd[31m b"),
        ({"error": {"code": 3}}, ""),
        ({"error": "long " * 200 + "end"}, "long " * 200 + "end"),
        ([], ""),
        (None, ""),
        (7, ""),
    ],
)
def test_the_words_of_an_error(body: object, words: str) -> None:
    assert error_words(body) == words
