"""What the status and words of a server mean to whoever asked."""

from __future__ import annotations

import re

from hwdash.core.errors import HwdashError, Overloaded, PromptTooLong, ServerDown, UnknownModel, UsageError
from hwdash.core.server import ServerConfig, server_label, status_problem

_TOO_LONG = re.compile(
    r"context[ _](length|window|size)|maximum context|max_model_len|n_ctx|too long|too many tokens|exceeds? the (model|max)",
    re.IGNORECASE,
)
"""How vLLM, llama.cpp, llama-cpp-python, Ollama and OpenAI say that a prompt does not fit."""
_LONGEST_WAIT_S = 3600.0


def error_of(server: ServerConfig, model: str, status: int, words: str, retry_after: str = "") -> HwdashError:
    """The error for the HTTP *status* that *server* gave a prompt to *model*, with the server's own *words*.

    *retry_after* is the header of that name.
    """
    label = server_label(server)
    told = f": {words}" if words else ""
    if status == 404:
        return UnknownModel(f"{label} does not know the model {model!r} or has no such path{told}", param="model")
    if status == 413 or (status in (400, 422) and _TOO_LONG.search(words)):
        return PromptTooLong(f"{label} finds the prompt too long{told}; shorten it", param="messages")
    if status in (400, 422):
        return UsageError(f"{label} does not accept the request{told or f' (status {status})'}")
    if status in (401, 403):
        return ServerDown(refusal(server))
    if status == 429:
        return Overloaded(f"{label} has too much to do{told}; try again later", retry_after_s=_seconds(retry_after))
    return ServerDown(f"{label} {status_problem(status) or f'answers {status}'}{told}")


def refusal(server: ServerConfig) -> str:
    """What to do when *server* wants a token, or another one than it got."""
    if server.token_variable is not None:
        return f"{server_label(server)} refuses the token; set the environment variable {server.token_variable}"
    return (
        f"{server_label(server)} wants a token; name the environment variable that holds it by "
        "token_variable in [[engine.servers]]"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        return 1.0
    return min(seconds, _LONGEST_WAIT_S) if seconds >= 0 else 1.0
