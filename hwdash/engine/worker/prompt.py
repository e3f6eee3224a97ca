"""What a request asks a model to read."""

from __future__ import annotations

import random

from hwdash.core.errors import PromptTooLong, UsageError
from hwdash.engine.message import Generate
from hwdash.engine.worker.loading import ReadyModel


def read_prompt(model: ReadyModel, request: Generate) -> tuple[list[int], str]:
    """The tokens of the prompt and a remark, empty as a rule. Raises `PromptTooLong` and `UsageError`."""
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


def random_prompt(model: ReadyModel, tokens: int, source: random.Random) -> list[int]:
    """So many tokens of the vocabulary, drawn from *source*."""
    return [source.randrange(model.vocabulary) for _ in range(tokens)]


def _too_long(model: ReadyModel, tokens: str) -> str:
    return (
        f"the prompt has {tokens} tokens and {model.name} reads at most {model.context_length}, answer included; "
        "shorten it"
    )
