"""``hwdash prompt``: stream an answer to stdout, its figures to stderr."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import aclosing
from typing import TypeVar

from hwdash.cli.answer import figures_text, route_lines
from hwdash.cli.comparison import ALL, compare
from hwdash.cli.output import failure_told, print_json
from hwdash.cli.progress import Progress
from hwdash.cli.requirement import add_requirements, model_name, requirements_of
from hwdash.cli.settings import load_config, with_client
from hwdash.client.client import Client
from hwdash.core.errors import UsageError
from hwdash.core.inference import (
    AUTO,
    MAX_PROMPT_BYTES,
    MAX_SEED,
    MAX_TEMPERATURE,
    MAX_TOKENS,
    FinishedEvent,
    InferenceRecord,
    Message,
    PromptRequest,
    StageEvent,
    TokenEvent,
)
from hwdash.core.paths import paths_from
from hwdash.core.wire import answer_to_wire


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add ``prompt``."""
    parser = command("prompt", "send a prompt to a device and stream the answer")
    parser.add_argument("text", metavar="TEXT", help="the prompt; - reads it from stdin")
    parser.add_argument(
        "--device", default=AUTO, metavar="ID", help="id or key, several: gpu0+gpu1, auto (default), or all"
    )
    parser.add_argument("--model", metavar="M", help="model name, Hub id or checkpoint directory")
    parser.add_argument("--max-tokens", type=int, default=256, metavar="N", help="longest answer (default 256)")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 is greedy (default)")
    parser.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="nucleus sampling, over 0 to 1 (default 1)"
    )
    parser.add_argument("--seed", type=int, metavar="S", help="makes sampling repeatable")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the stream")
    add_requirements(parser)
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    with failure_told(parsed.json):
        request = _request(parsed)
    answer = compare if parsed.device == ALL else send
    return with_client(parsed, lambda client: answer(client, request, parsed.json))


def _request(parsed: argparse.Namespace) -> PromptRequest:
    """What the options ask for. Raises `UsageError`."""
    config = load_config(parsed.config, paths_from(os.environ))
    return PromptRequest(
        messages=(Message("user", _prompt_text(parsed.text)),),
        model=model_name(config.engine.model if parsed.model is None else parsed.model),
        device=parsed.device,
        max_tokens=_checked("--max-tokens", parsed.max_tokens, 1, MAX_TOKENS),
        temperature=_checked("--temperature", parsed.temperature, 0.0, MAX_TEMPERATURE),
        top_p=_checked("--top-p", parsed.top_p, 1e-6, 1.0),
        seed=None if parsed.seed is None else _checked("--seed", parsed.seed, 0, MAX_SEED),
        requirements=requirements_of(parsed),
    )


def _prompt_text(argument: str) -> str:
    """The prompt itself. Raises `UsageError` when it is empty, too long or not text."""
    data = sys.stdin.buffer.read(MAX_PROMPT_BYTES + 1) if argument == "-" else os.fsencode(argument)
    if len(data) > MAX_PROMPT_BYTES:
        raise UsageError("the prompt is longer than 1 MiB; send a shorter one", param="prompt")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UsageError("the prompt is not UTF-8 text", param="prompt") from None
    if not text.strip():
        raise UsageError("the prompt is empty; give some text, or - to read stdin", param="prompt")
    return text


Number = TypeVar("Number", int, float)


def _checked(flag: str, value: Number, low: Number, high: Number) -> Number:
    if not low <= value <= high:
        raise UsageError(f"{flag} must be between {_bound(low)} and {_bound(high)}, not {value}", param=flag)
    return value


def _bound(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


async def send(client: Client, request: PromptRequest, as_json: bool) -> int:
    """Send *request*; print the answer as it comes and its figures, or one JSON document at the end."""
    progress = Progress(quiet=as_json)
    text: list[str] = []
    record: InferenceRecord | None = None
    with failure_told(as_json):
        async with aclosing(client.prompt(request)) as events:
            try:
                async for event in events:
                    match event:
                        case StageEvent():
                            progress.show(event)
                        case TokenEvent():
                            progress.clear()
                            text.append(event.text)
                            if not as_json:
                                sys.stdout.write(event.text)
                                sys.stdout.flush()
                        case FinishedEvent():
                            record = event.record
            finally:
                progress.clear()
                if text and not as_json and not text[-1].endswith("\n"):
                    print(flush=True)
    assert record is not None, "an answer always ends with its record"
    if as_json:
        print_json(answer_to_wire(record, "".join(text)))
    else:
        print(figures_text(record), *route_lines(record), sep="\n", file=sys.stderr)
    return 0
