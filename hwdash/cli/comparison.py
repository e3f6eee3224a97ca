"""``hwdash prompt --device all``: the same prompt to every suitable device at once."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from hwdash.cli.answer import figures_text
from hwdash.cli.output import failure_told, print_json
from hwdash.cli.progress import Progress
from hwdash.client.client import Client
from hwdash.core.errors import DaemonUnreachable, HwdashError, NoSuitableDevice
from hwdash.core.inference import FinishedEvent, FinishReason, InferenceRecord, PromptRequest, Route, TokenEvent
from hwdash.core.ranking import RankedDevice, nothing_text
from hwdash.core.text import sanitise_line
from hwdash.core.wire import answer_to_wire

ALL = "all"
"""The name of all suitable devices."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of the prompt on one device: its record and text, or an error."""

    device: str
    place: int
    text: str
    result: InferenceRecord | HwdashError

    @property
    def failed(self) -> bool:
        return isinstance(self.result, HwdashError)


async def compare(client: Client, request: PromptRequest, as_json: bool) -> int:
    """Send *request* to every device that suits it; print each answer when it is complete, or one JSON document.

    Gives 0 when at least one device answered, else 1. Raises `NoSuitableDevice` when there is none to ask.
    """
    with failure_told(as_json):
        ranking = await client.rank(replace(request.requirements, model=request.model))
    if not ranking.ranked:
        if as_json:
            print_json({"results": []})
        raise NoSuitableDevice(nothing_text(ranking.excluded))
    progress = Progress(quiet=as_json)
    count = len(ranking.ranked)

    async def ask(place: int, item: RankedDevice) -> _Outcome:
        outcome = await _ask(client, replace(request, device=item.device), place, progress)
        progress.done(item.device)
        if isinstance(outcome.result, InferenceRecord):
            route = Route(ALL, (f"number {place} of {count} devices, score {item.score:.3f}", *item.why))
            outcome = replace(outcome, result=replace(outcome.result, route=route))
        if not as_json:
            _print(outcome, count)
        return outcome

    try:
        outcomes = await asyncio.gather(*(ask(place, item) for place, item in enumerate(ranking.ranked, 1)))
    finally:
        progress.clear()
    if as_json:
        print_json({"results": [_to_wire(outcome, request.model) for outcome in outcomes]})
    gone = [item.result for item in outcomes if isinstance(item.result, DaemonUnreachable)]
    if len(gone) == count:
        raise gone[0]
    return 1 if all(outcome.failed for outcome in outcomes) else 0


async def _ask(client: Client, request: PromptRequest, place: int, progress: Progress) -> _Outcome:
    text: list[str] = []
    result: InferenceRecord | HwdashError = DaemonUnreachable("the daemon broke off its answer")
    try:
        async with aclosing(client.prompt(request)) as events:
            async for event in events:
                progress.show(event, request.device)
                if isinstance(event, TokenEvent):
                    text.append(event.text)
                elif isinstance(event, FinishedEvent):
                    result = event.record
    except HwdashError as error:
        result = error
    if isinstance(result, InferenceRecord) and result.finish_reason is FinishReason.ERROR:
        result = HwdashError(result.error or f"{request.device}: the answer broke off; see the daemon's log")
    return _Outcome(request.device, place, "".join(text), result)


def _print(outcome: _Outcome, count: int) -> None:
    """A heading with the figures, then the text; of a failure one line on stderr."""
    if isinstance(outcome.result, HwdashError):
        print(f"{outcome.device} failed: {sanitise_line(outcome.result.message, 2000)}", file=sys.stderr, flush=True)
        return
    text = outcome.text if outcome.text.endswith("\n") else f"{outcome.text}\n"
    print(f"== {outcome.place} of {count}: {figures_text(outcome.result)}\n{text}", end="", flush=True)


def _to_wire(outcome: _Outcome, model: str) -> dict[str, Any]:
    if isinstance(outcome.result, HwdashError):
        failure = {"error": outcome.result.message, "code": outcome.result.code}
        return {"text": outcome.text, "model": model, "device": outcome.device, **failure, "finish_reason": "error"}
    return answer_to_wire(outcome.result, outcome.text)
