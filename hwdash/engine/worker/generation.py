"""The decode loop: a prompt to tokens, one at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from hwdash.core.errors import PromptTooLong, UsageError
from hwdash.core.inference import FinishReason
from hwdash.core.text import sanitise
from hwdash.engine.message import Done, Generate, Prefill, Token
from hwdash.engine.stop import StopHolder
from hwdash.engine.worker.detokenizer import Detokenizer
from hwdash.engine.worker.loading import ReadyModel
from hwdash.engine.worker.sampling import Sampler

_CHUNK = {"cpu": 128, "cuda": 2048}
"""Tokens of a prompt that are read between two looks at whether the request was cancelled."""


def answer(
    model: ReadyModel, request: Generate, cancelled: Callable[[], bool], emit: Callable[[Prefill | Token], None]
) -> Done:
    """Answer *request*: one `Prefill`, then one `Token` per token through *emit*; the account of it at the end.

    *cancelled* is asked before every step. Raises `PromptTooLong`, `UsageError` and `EngineError`.
    """
    prompt, detail = _read_prompt(model, request)
    limit = request.max_tokens
    if model.context_length is not None:
        limit = min(limit, model.context_length - len(prompt))
    emit(Prefill(request.id, len(prompt), detail))
    detokenizer, holder = Detokenizer(model.decode), StopHolder(request.stop)
    sampler = Sampler(request.temperature, request.top_p, request.seed, model.device)
    reason = FinishReason.LENGTH
    count, made_at = 0, time.monotonic()
    if limit > 0:
        for token in _tokens(model, prompt, sampler, cancelled):
            if token in model.ends:
                reason = FinishReason.STOP
                break
            count, made_at = count + 1, time.monotonic()
            emit(Token(request.id, sanitise(holder.push(detokenizer.push(token))), count, made_at))
            if holder.stopped:
                reason = FinishReason.STOP
                break
            if count >= limit:
                break
        else:
            reason = FinishReason.CANCELLED
    if rest := sanitise(holder.push(detokenizer.flush()) + holder.flush()):
        emit(Token(request.id, rest, count, made_at))
    return Done(request.id, reason, len(prompt), count)


def _read_prompt(model: ReadyModel, request: Generate) -> tuple[list[int], str]:
    """The tokens of the prompt and a remark. Raises `PromptTooLong` before anything was computed."""
    text, detail = model.prompt_text(request.messages, request.template)
    context = model.context_length
    # No token covers more than the longest of the vocabulary, so a huge text is refused without cutting it up.
    if context is not None and (least := len(text) // model.longest_token) >= context:
        raise PromptTooLong(_too_long(model, f"at least {least}"), param="messages")
    tokens = model.encode(text, request.template)
    if not tokens:
        raise UsageError("the prompt is empty; write something", param="messages")
    if context is not None and len(tokens) >= context:
        raise PromptTooLong(_too_long(model, str(len(tokens))), param="messages")
    return tokens, detail


def _too_long(model: ReadyModel, tokens: str) -> str:
    return (
        f"the prompt has {tokens} tokens and {model.name} reads at most {model.context_length}, answer included; "
        "shorten it"
    )


def _tokens(model: ReadyModel, prompt: list[int], sampler: Sampler, cancelled: Callable[[], bool]) -> Iterator[int]:
    """Tokens without end; ends only when the request is cancelled."""
    cache = model.new_cache()
    step = torch.inference_mode()(model.network)
    arguments = {"past_key_values": cache, **model.forward_arguments}
    ids = torch.tensor([prompt], dtype=torch.long, device=model.device)
    logits = None
    for chunk in ids.split(_CHUNK.get(model.device.type, 2048), dim=1):
        if cancelled():
            return
        logits = step(input_ids=chunk, **arguments).logits
    while logits is not None:
        with torch.inference_mode():
            token = sampler.pick(logits[0, -1])
        yield int(token.item())
        if cancelled():
            return
        logits = step(input_ids=token, **arguments).logits
