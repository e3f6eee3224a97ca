"""Frames survive any cut of the stream, and a broken stream is noticed."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.inference import FinishReason, Message
from hwdash.engine import frame
from hwdash.engine.frame import FrameError, encode, supervisor_decoder, worker_decoder
from hwdash.engine.message import Cancel, Done, Failed, FromWorker, Generate, Loading, Prefill, Token

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBER = st.integers(0, 2**40)
FROM_WORKER: st.SearchStrategy[FromWorker] = st.one_of(
    st.builds(Token, NUMBER, TEXT, NUMBER, st.floats(allow_nan=False)),
    st.builds(Done, NUMBER, st.sampled_from(FinishReason), NUMBER, NUMBER),
    st.builds(Failed, TEXT, TEXT, st.none() | NUMBER, st.none() | TEXT),
    st.builds(Loading, TEXT, st.none() | st.floats(0, 1)),
    st.builds(Prefill, NUMBER, NUMBER, TEXT),
)


@given(st.lists(FROM_WORKER, max_size=8), st.data())
def test_messages_survive_any_cut(messages: list[FromWorker], data: st.DataObject) -> None:
    stream = b"".join(map(encode, messages))
    decoder = supervisor_decoder()
    received = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        received += decoder.feed(stream[:size])
        stream = stream[size:]
    assert received == messages


@given(TEXT, NUMBER)
def test_the_way_to_the_worker(text: str, number: int) -> None:
    request = Generate(number, (Message("user", text),), 5, 0.5, 0.9, None, (text,), False)
    assert worker_decoder().feed(encode(request) + encode(Cancel(number))) == [request, Cancel(number)]


@given(st.binary(min_size=4))
def test_noise_is_a_frame_error_or_waits_for_more(noise: bytes) -> None:
    with contextlib.suppress(FrameError):
        worker_decoder().feed(noise)


def test_a_huge_length_is_refused_before_its_bytes_come() -> None:
    with pytest.raises(FrameError, match="announced"):
        worker_decoder().feed((frame.MAX_FRAME_BYTES + 1).to_bytes(4, "big"))


def test_what_cannot_be_sent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FrameError, match="Unicode"):
        encode(Failed("engine", "\ud800"))
    monkeypatch.setattr(frame, "MAX_FRAME_BYTES", 100)
    with pytest.raises(FrameError, match="at most 100"):
        encode(Failed("engine", "x" * 200))
