"""The engine over an external server, against one on a real socket that misbehaves in every way."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from hwdash.core.errors import (
    HwdashError,
    Overloaded,
    PromptTooLong,
    ServerDown,
    UnknownModel,
    UsageError,
)
from hwdash.core.inference import (
    FinishReason,
    Generation,
    Message,
    PromptRequest,
    Stage,
    StageEvent,
    TokenEvent,
)
from hwdash.core.server import ServerConfig
from hwdash.core.status import WorkerState
from hwdash.engine import remote, remote_link, remote_roster
from hwdash.engine.remote import RemoteEngine
from tests.engine.conftest import CPU
from tests.engine.waiting import eventually, first_token
from tests.openai_server import (
    DONE,
    Asked,
    OpenAiServer,
    Writer,
    begin,
    delta,
    event,
    openai_server,
    refuse,
    reply,
    say,
    stall,
    stream,
    usage,
)


@asynccontextmanager
async def attached(max_queue: int = 32, **changes: Any) -> AsyncIterator[tuple[OpenAiServer, RemoteEngine]]:
    """A server and the engine over it; *changes* are of either."""
    own = {name: changes.pop(name) for name in ("model", "slots", "token_variable") if name in changes}
    async with openai_server(**changes) as server:
        engine = RemoteEngine(ServerConfig("there", server.url, **own), max_queue)
        try:
            yield server, engine
        finally:
            await engine.close()


def asking(model: str = "a-model", **more: Any) -> PromptRequest:
    return PromptRequest((Message("user", "Say hello."),), model, **more)


async def answered(engine: RemoteEngine, request: PromptRequest | None = None) -> tuple[str, Generation]:
    async with asyncio.timeout(30):
        events = [event async for event in engine.generate(request or asking(), CPU)]
    assert isinstance(events[-1], Generation)
    return "".join(event.text for event in events if isinstance(event, TokenEvent)), events[-1]


async def test_an_answer_with_its_figures() -> None:
    async with attached(script=say("Hello", " there", "!")) as (server, engine):
        events = [event async for event in engine.generate(asking(max_tokens=9, seed=3, stop=("zz",)), CPU)]
    assert isinstance(events[0], StageEvent)
    assert events[0].stage is Stage.PREFILL
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    assert [(token.text, token.tokens) for token in tokens] == [("Hello", 1), (" there", 2), ("!", 3)]
    end = events[-1]
    assert isinstance(end, Generation)
    assert (end.finish_reason, end.tokens.prompt, end.tokens.completion) == (FinishReason.STOP, 7, 3)
    timing = end.timing
    assert timing.ttft_s == tokens[0].elapsed_s
    assert timing.total_s is not None
    assert timing.total_s >= tokens[-1].elapsed_s > 0
    assert timing.itl_p50_s is not None
    assert timing.itl_p99_s is not None
    assert timing.queue_s is not None
    assert timing.queue_s < 1
    assert server.prompts[0].path == "/v1/chat/completions"
    assert server.prompts[0].body == {
        "model": "a-model",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 9,
        "temperature": 0.0,
        "top_p": 1.0,
        "messages": [{"role": "user", "content": "Say hello."}],
        "seed": 3,
        "stop": ["zz"],
    }


async def test_plain_text_goes_to_completions() -> None:
    pieces = [event({"choices": [{"text": text, "finish_reason": None}]}) for text in ("a", "b")]
    async with attached(script=stream(*pieces, DONE)) as (server, engine):
        text, end = await answered(engine, asking(template=False, max_tokens=2))
    assert (text, end.finish_reason, end.tokens.completion, end.tokens.prompt) == ("ab", FinishReason.LENGTH, 2, None)
    assert server.prompts[0].path == "/v1/completions"
    assert server.prompts[0].body["prompt"] == "Say hello."
    assert "messages" not in server.prompts[0].body


@pytest.mark.parametrize(
    ("pieces", "text", "tokens", "finish"),
    [
        ([b": ping\r\n\r\n", delta("a").replace(b"\n", b"\r\n"), delta("b", "length")], "ab", 2, "length"),
        ([delta("a"), delta("b"), delta(None, "stop"), DONE], "ab", 2, "stop"),
        ([delta(reasoning_content="thinks "), delta("a", "stop")], "thinks a", 2, "stop"),
        ([delta("a\x1b[31m"), delta("b\u202e\r"), delta("\nc", "stop")], "a\ufffd[31mb\ufffd\nc", 3, "stop"),
        ([delta("abc"), usage(1, 30), delta(None, "stop"), DONE], "abc", 30, "stop"),
        ([delta("a"), delta(None, "stop"), usage(1, 0), DONE], "a", 1, "stop"),
        ([delta(None, "stop"), usage(4, 0), DONE], "", 0, "stop"),
        ([delta("a"), delta("b", "eos"), b"data: nonsense\n\n"], "ab", 2, "stop"),
        ([delta("\ud83d"), delta("\ude00 x", "stop")], "\N{GRINNING FACE} x", 2, "stop"),
        ([delta("a\ud83d"), delta("\ud83db", "stop")], "a\ufffd\ufffdb", 2, "stop"),
        ([delta("a\ud83d", "stop")], "a\ufffd", 1, "stop"),
        ([delta(content=[{"type": "text", "text": "a"}, {"type": "other"}, 3]), delta("b", "stop")], "ab", 2, "stop"),
        ([delta("a"), delta(None, "stop"), b"data: {"], "a", 1, "stop"),
        ([delta("hello wor"), delta("ld, again"), DONE], "hello ", 2, "stop"),
        ([delta("wor", "stop"), DONE], "wor", 1, "stop"),
        ([delta("abcd "), *[delta("x")] * 4, DONE], "abcd xxxx", 5, "length"),
        ([delta(letter) for letter in "abcdefgh"] + [DONE], "abcde", 5, "length"),
    ],
)
async def test_what_counts_as_an_answer(pieces: list[bytes], text: str, tokens: int, finish: str) -> None:
    async with attached(script=stream(*pieces)) as (_, engine):
        said, end = await answered(engine, asking(max_tokens=5, stop=("world",)))
    assert (said, end.tokens.completion, end.finish_reason.value) == (text, tokens, finish)


async def test_an_answer_ends_though_the_connection_stays() -> None:
    async with attached(script=stall(delta("a", "stop"))) as (server, engine):
        text, end = await answered(engine)
        await asyncio.wait_for(server.hung_up.wait(), 20)
    assert (text, end.finish_reason) == ("a", FinishReason.STOP)
    assert end.timing.total_s is not None
    assert end.timing.ttft_s is not None
    assert end.timing.total_s - end.timing.ttft_s < remote._AFTER_END_S


async def test_an_answer_without_end_is_ended() -> None:
    async def for_ever(asked: Asked, writer: Writer) -> None:
        begin(writer)
        while True:
            writer.write(delta("a"))
            await writer.drain()

    async with attached(script=for_ever) as (server, engine):
        text, end = await answered(engine, asking(max_tokens=20))
        await asyncio.wait_for(server.hung_up.wait(), 20)
    assert (text, end.finish_reason) == ("a" * 20, FinishReason.LENGTH)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (stream(delta("a")), "broke off the answer before its end"),
        (stream(delta("a"), b'data: {"choices": [{'), "broke off the answer before its end"),
        (stream(delta("a"), DONE), "ended the answer without a reason"),
        (stream(DONE), "ended the answer without a reason"),
        (stream(), r"sends nothing.*too long\?"),
        (stream(delta("a"), b"data: nonsense\n\n"), "there at http.*sends nonsense"),
        (stream(b"data: ", *[b"x" * 65536] * 160), "sends nonsense: an event of more than"),
        (stream(delta("a"), event({"error": {"message": "out of\x07 memory"}})), "broke off.*out of\ufffd memory"),
        (stream(delta("a", "abort")), r"\(abort\)"),
        (refuse(500, {"detail": "broken"}), "answers 500: broken"),
        (refuse(503, {"error": {"message": "Loading model"}}), "answers 503: it is not ready: Loading model"),
        (refuse(301, {}, location="http://127.0.0.1:1/"), "redirect"),
        (refuse(418, b"\xff" * 100_000), "answers 418"),
        (refuse(200, {"choices": []}), "answers with application/json, not with a stream"),
        (stream(*[delta("x" * 500_000)] * 3), "more than was asked for: no answer of 256 tokens is that large"),
    ],
)
async def test_a_server_that_breaks_is_down(script: Any, words: str) -> None:
    async with attached(script=script) as (server, engine):
        with pytest.raises(ServerDown, match=words):
            await answered(engine)
        server.script = None
        assert (await answered(engine))[0] == "Hello there", "it is not held against it"


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (404, {"error": {"message": "no such model"}}, ServerDown, "although it lists it"),
        (400, {"error": {"message": "bad seed"}}, UsageError, "does not accept the request: bad seed"),
        (422, {"detail": [{"msg": "bad top_p"}]}, UsageError, "bad top_p"),
        (400, {"message": "maximum context length is 5 tokens"}, PromptTooLong, "too long"),
        (400, {"message": "Requested tokens (9) exceed context window of 5"}, PromptTooLong, "context window"),
        (413, b"", PromptTooLong, "shorten"),
        (401, {}, ServerDown, "wants a token"),
        (403, {}, ServerDown, "token_variable"),
        (429, {}, Overloaded, "too much to do"),
    ],
)
async def test_what_a_status_means(status: int, body: Any, kind: type[HwdashError], words: str) -> None:
    async with attached(script=refuse(status, body)) as (_, engine):
        with pytest.raises(kind, match=words):
            await answered(engine)


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), ("", 1.0), ("nan", 1.0), ("-3", 1.0), ("1e9", 3600.0)])
async def test_when_to_come_back(text: str, seconds: float) -> None:
    async with attached(script=refuse(429, {}, retry_after=text)) as (_, engine):
        with pytest.raises(Overloaded) as caught:
            await answered(engine)
    assert caught.value.retry_after_s == seconds
    assert math.isfinite(caught.value.retry_after_s)


async def test_a_token_is_sent_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "hwdash")
    monkeypatch.setenv("THEIR_TOKEN", "secret-1")
    async with attached(token_variable="THEIR_TOKEN") as (server, engine):
        await answered(engine)
        assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer secret-1"}
        server.script = refuse(401, {"error": {"message": "wrong key secret-1"}})
        with pytest.raises(ServerDown, match="set the environment variable THEIR_TOKEN"):
            await answered(engine)
        server.script = refuse(400, {"error": {"message": "no secret-1 here"}})
        with pytest.raises(UsageError, match="no … here"):
            await answered(engine)
        server.script = refuse(400, {"error": {"message": "x" * 295 + " secret-1"}})
        with pytest.raises(UsageError) as caught:
            await answered(engine)
        assert "sec" not in caught.value.message
        for status in (400, 500):
            server.script = stream(event({"error": {"message": f"{'x' * 290} no secret-1 here", "code": status}}))
            with pytest.raises(HwdashError, match="no …") as caught_in_stream:
                await answered(engine)
            assert "sec" not in caught_in_stream.value.message
        monkeypatch.setenv("THEIR_TOKEN", "two\nlines")
        with pytest.raises(ServerDown, match="THEIR_TOKEN must be ASCII"):
            await answered(engine)
    assert "secret" not in caplog.text


async def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with attached() as (_, engine):
        assert (await answered(engine))[0] == "Hello there"


async def test_closing_the_iterator_hangs_up() -> None:
    async with attached(script=stall(delta("a"))) as (server, engine):
        async with aclosing(engine.generate(asking(), CPU)) as events:
            assert (await first_token(events)).text == "a"
            assert engine.standing("a-model", CPU).running == 1
        await asyncio.wait_for(server.hung_up.wait(), 20)
        assert engine.standing("a-model", CPU).running == 0


async def test_cancelling_before_the_first_byte_hangs_up() -> None:
    async def silent(asked: Asked, writer: Writer) -> None:
        await asyncio.Event().wait()

    async with attached(script=silent) as (server, engine):
        task = asyncio.ensure_future(answered(engine))
        await eventually(lambda: server.running == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.hung_up.wait(), 20)


async def test_closing_the_engine_breaks_off() -> None:
    async with attached(script=stall(delta("a"))) as (server, engine):
        events = engine.generate(asking(), CPU)
        await first_token(events)
        rest = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        await engine.close()
        with pytest.raises(ServerDown):
            await asyncio.wait_for(rest, 20)
        await asyncio.wait_for(server.hung_up.wait(), 20)
        with pytest.raises(ServerDown, match="shutting down"):
            await answered(engine)


async def test_no_more_than_its_slots_at_once() -> None:
    go = asyncio.Event()

    async def patient(asked: Asked, writer: Writer) -> None:
        await go.wait()
        await say("a")(asked, writer)

    async with attached(script=patient, slots=2, max_queue=3) as (server, engine):
        tasks = [asyncio.ensure_future(answered(engine)) for _ in range(5)]
        await eventually(lambda: server.running == 2)
        standing = engine.standing("a-model", CPU)
        assert (standing.running, standing.waiting, standing.slots) == (2, 3, 2)
        assert (standing.loaded, standing.server, standing.problem) == (True, "there", "")
        with pytest.raises(Overloaded, match="3 requests already wait"):
            await answered(engine)
        waiting = engine.generate(asking(), CPU)
        with pytest.raises(Overloaded):
            await anext(waiting)
        go.set()
        ends = [end for _, end in await asyncio.gather(*tasks)]
    assert server.most_running == 2
    queued = sorted(end.timing.queue_s or 0.0 for end in ends)
    assert queued[1] < queued[2], "two did not wait"
    for end in ends:
        assert end.timing.ttft_s is not None
        assert end.timing.ttft_s >= (end.timing.queue_s or 0.0)


async def test_who_waits_is_told_and_may_leave() -> None:
    async with attached(script=stall(delta("a")), slots=1) as (_, engine):
        async with aclosing(engine.generate(asking(), CPU)) as first:
            await first_token(first)
            async with aclosing(engine.generate(asking(), CPU)) as second:
                told = await anext(second)
                assert isinstance(told, StageEvent)
                assert (told.stage, told.detail) == (Stage.QUEUED, "1 request before this one")
                assert engine.standing("a-model", CPU).waiting == 1
        standing = engine.standing("a-model", CPU)
        assert (standing.running, standing.waiting) == (0, 0)


async def test_nobody_listens() -> None:
    async with openai_server() as server:
        url = server.url
    engine = RemoteEngine(ServerConfig("gone", url))
    with pytest.raises(ServerDown, match=r"gone at http.*refuses the connection"):
        await engine.check("a-model", CPU)
    with pytest.raises(ServerDown, match="refuses"):
        await answered(engine)
    assert "refuses" in engine.standing("a-model", CPU).problem
    await engine.close()


async def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_link, "SILENCE_S", 0.2)
    async with attached(script=stall(delta("a"))) as (_, engine):
        with pytest.raises(ServerDown, match=r"was silent for 0\.2 s"):
            await answered(engine)


async def test_signs_of_life_are_no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "NO_TOKEN_S", 0.3)

    async def alive(asked: Asked, writer: Writer) -> None:
        begin(writer)
        while True:
            writer.write(b": ping\n\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with attached(script=alive) as (_, engine):
        with pytest.raises(ServerDown, match=r"made no token for 0\.3 s"):
            await answered(engine)


async def test_the_names_of_models() -> None:
    async with attached(models=("one", "two")) as (server, engine):
        with pytest.raises(UnknownModel, match=r"there at http.*does not serve three; it serves: one, two"):
            await answered(engine, asking("three"))
        assert not server.prompts
        assert engine.served() == ("one", "two")
        assert "does not serve three" in engine.standing("three", CPU).problem
        assert not engine.standing("two", CPU).problem
        server.models = ("three",)
        await engine.check("three", CPU)
        assert engine.served() == ("three",)


async def test_a_name_of_our_own_for_its_only_model() -> None:
    async with attached(models=("/models/x.gguf",), model="mine") as (server, engine):
        assert engine.served() == ("mine",)
        await answered(engine, asking("mine"))
        assert server.prompts[0].body["model"] == "/models/x.gguf"
        with pytest.raises(UnknownModel, match="it serves: mine"):
            await engine.check("/models/x.gguf", CPU)


@pytest.mark.parametrize(
    "changes",
    [
        {"models": None},
        {"models": ()},
        {"list_status": 500},
        {"list_body": b"nonsense"},
        {"list_body": b'{"data": [3, {"id": 3}, {"id": ""}, {"id": "a\\u001b"}]}'},
        {"list_body": b"[" * 100_000},
        {"list_body": b"x" * (2**22 + 1)},
    ],
)
async def test_a_server_that_does_not_tell_its_models_is_taken_at_its_word(changes: dict[str, Any]) -> None:
    async with attached(**changes) as (server, engine):
        await answered(engine, asking("any"))
        assert server.prompts[0].body["model"] == "any"
        assert engine.served() == ()
        server.script = refuse(404, {"error": "never heard of it"})
        with pytest.raises(UnknownModel, match="never heard of it"):
            await answered(engine, asking("any"))


@pytest.mark.parametrize(("status", "words"), [(503, "not ready"), (302, "redirect"), (401, "wants a token")])
async def test_a_list_that_tells_of_trouble(status: int, words: str) -> None:
    async with attached(list_status=status) as (server, engine):
        with pytest.raises(ServerDown, match=words):
            await answered(engine)
        assert words in engine.standing("a-model", CPU).problem
        server.list_status = 200
        assert (await answered(engine))[0] == "Hello there"
        assert not engine.standing("a-model", CPU).problem


async def test_it_is_probed_while_somebody_is_interested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_roster, "PROBE_EVERY_S", 0.02)
    monkeypatch.setattr(remote_roster, "_INTEREST_S", 0.3)
    async with attached() as (server, engine):
        assert not server.asked
        assert engine.served() == ()
        await eventually(lambda: engine.roster.models == ("a-model",))
        server.list_status = 503
        await eventually(lambda: "503" in engine.roster.problem)
        watch = engine.roster._watch
        assert watch is not None
        await asyncio.wait_for(watch, 20)
        assert engine.standing("a-model", CPU).problem
        server.list_status = 200
        await eventually(lambda: not engine.roster.problem)


async def test_a_slow_list_does_not_spoil_a_server_that_makes_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_roster, "PROBE_LIMIT_S", 0.05)
    async with attached() as (server, engine):
        await answered(engine)
        await eventually(lambda: engine.roster.known)

        async def never(asked: Asked, writer: Writer) -> None:
            await asyncio.sleep(0.5)

        monkeypatch.setattr(server, "_list", never)
        await engine.roster.refresh()
        assert not engine.roster.problem
        engine.roster.doubt()
        await engine.roster.refresh()
        assert "does not answer within 0.05 s" in engine.roster.problem


@pytest.mark.parametrize(
    ("finish", "words"), [("content_filter", "withholds the rest"), ("tool_calls", "tool"), ("function_call", "tool")]
)
async def test_an_answer_that_is_not_the_whole_answer_is_no_fault_of_the_server(finish: str, words: str) -> None:
    async with attached(script=stream(delta("a"), delta(None, finish), DONE)) as (_, engine):
        with pytest.raises(UsageError, match=rf"there at http.*{words}.*\({finish}\)"):
            await answered(engine)
        assert not engine.roster.problem


async def test_a_server_that_failed_is_asked_before_the_next_prompt() -> None:
    async with attached() as (server, engine):

        async def dying(asked: Asked, writer: Writer) -> None:
            server.list_status = 503
            await stream(delta("a"))(asked, writer)

        server.script = dying
        with pytest.raises(ServerDown, match="broke off"):
            await answered(engine)
        with pytest.raises(ServerDown, match="503"):
            await answered(engine)
        assert len(server.prompts) == 1


async def test_an_answer_that_is_none_is_hung_up_on() -> None:
    async def endless(asked: Asked, writer: Writer) -> None:
        begin(writer, "application/json")
        await writer.drain()
        await asyncio.Event().wait()

    async with attached(script=endless) as (server, engine):
        with pytest.raises(ServerDown, match="not with a stream"):
            await answered(engine)
        await asyncio.wait_for(server.hung_up.wait(), 20)


@pytest.mark.parametrize("url", ["http://256.1.1.1/v1", "http://[v1.a]/v1", "http://xn--/v1"])
async def test_a_url_that_cannot_be_asked_is_a_server_that_is_down(url: str) -> None:
    engine = RemoteEngine(ServerConfig("there", url))
    with pytest.raises(ServerDown, match=r"cannot be asked: .*; correct its url"):
        await answered(engine)
    assert engine.roster.asked
    assert "cannot be asked" in engine.standing("a-model", CPU).problem
    await engine.close()


async def test_whatever_befalls_a_probe_the_server_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with attached() as (_, engine):

        async def broken(limit_s: float) -> int:
            raise RuntimeError("boom")

        with monkeypatch.context() as patched:
            patched.setattr(engine._link, "probe", broken)
            with pytest.raises(RuntimeError, match="boom"):
                await engine.roster.refresh()
            assert engine.roster.asked
        assert (await answered(engine))[0] == "Hello there"


async def test_who_waits_for_a_probe_is_told_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with attached() as (_, engine):
        begun = asyncio.Event()

        async def endless(limit_s: float) -> int:
            begun.set()
            return int(await asyncio.Event().wait())

        monkeypatch.setattr(engine._link, "probe", endless)
        waiting = [asyncio.ensure_future(engine.check("a-model", CPU)) for _ in range(2)]
        await begun.wait()
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        assert waiting[0].cancelled()
        await engine.close()
        with pytest.raises(ServerDown, match="shutting down"):
            await waiting[1]
        with pytest.raises(ServerDown, match="shutting down"):
            await engine.roster.refresh()


async def test_only_the_newest_names_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MOST_TOLD", 3)
    async with attached(models=None) as (_, engine):
        for name in ("m0", "m1", "m2", "m0", "m3"):
            await answered(engine, asking(name))
        assert [status.model for status in engine.workers()] == ["m0", "m2", "m3"]


async def test_what_it_answered_for_is_told() -> None:
    async with attached() as (server, engine):
        assert engine.workers() == ()
        assert await engine.shape("a-model") is None
        await engine.prewarm("a-model", CPU)
        await answered(engine)
        (status,) = engine.workers()
        assert (status.device, status.model, status.state, status.pid) == ("cpu0", "a-model", WorkerState.READY, None)
        server.list_status = 502
        await engine.roster.refresh()
        (status,) = engine.workers()
        assert status.state is WorkerState.STOPPED
        assert "502" in status.problem


async def test_a_compressed_answer_is_refused() -> None:
    async def compressed(asked: Asked, writer: Writer) -> None:
        reply(writer, 200, b"\x1f\x8b", "text/event-stream", content_encoding="gzip")

    async with attached(script=compressed) as (server, engine):
        with pytest.raises(ServerDown, match="compresses"):
            await answered(engine)
        assert server.prompts[0].headers["accept-encoding"] == "identity"


async def test_a_list_is_not_asked_for_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_roster, "PROBE_EVERY_S", 0.01)
    async with attached() as (server, engine):
        engine.served()
        await eventually(lambda: sum(asked.method == "HEAD" for asked in server.asked) > 5)
        assert sum(asked.method == "GET" for asked in server.asked) == 1


async def test_a_server_that_is_too_busy_for_its_list_answers_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_roster, "PROBE_LIMIT_S", 0.3)
    async with attached() as (server, engine):
        listed = server._list

        async def busy(asked: Asked, writer: Writer) -> None:
            if asked.method == "GET":
                await asyncio.sleep(20)
            await listed(asked, writer)

        monkeypatch.setattr(server, "_list", busy)
        assert (await answered(engine))[0] == "Hello there"
        assert not engine.standing("a-model", CPU).problem
