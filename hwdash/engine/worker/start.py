"""From what the supervisor asks for to a model that has made its first token."""

from __future__ import annotations

import random
import time

import msgspec

from hwdash.core.measurement import LoadedModel
from hwdash.engine.message import Load, Ready
from hwdash.engine.worker.decoder import DAMAGED, Decoder, Sampling
from hwdash.engine.worker.follower import Followers, LeadingDecoder
from hwdash.engine.worker.held import held
from hwdash.engine.worker.loading import ReadyModel, Report, load_model
from hwdash.engine.worker.prompt import random_prompt
from hwdash.engine.worker.selection import choose_decoder

_PROMPT_TOKENS, _NEW_TOKENS = 16, 2


def start(load: Load, import_s: float, report: Report) -> tuple[ReadyModel, Decoder, Ready]:
    """Load the model of *load* and make its first token, so that the first prompt finds everything warm.

    *import_s* is how long importing the libraries took. Raises as `load_model` does.
    """
    began = time.monotonic()
    followers = Followers(load) if load.ranks > 1 else None
    if followers is not None:
        load = msgspec.structs.replace(load, meeting=followers.meeting)
    model = load_model(load, report)
    decoder = choose_decoder(model, load)
    if followers is not None:
        decoder = LeadingDecoder(decoder, followers)
    load_s = time.monotonic() - began
    report("making a first token", None)
    first_token_s = _first_token_s(model, decoder)
    if followers is not None:
        followers.met()
    dtype, memory_bytes = held(model, decoder)
    loaded = LoadedModel(
        dtype,
        model.parameters,
        memory_bytes,
        model.context_length,
        decoder=decoder.kind,
        choices=decoder.choices,
        read_bytes=decoder.read_bytes(0),
        import_s=import_s,
        load_s=load_s,
        first_token_s=first_token_s,
        capture_s=decoder.capture_s,
    )
    return model, decoder, Ready(loaded, model.has_template)


def _first_token_s(model: ReadyModel, decoder: Decoder) -> float:
    """Seconds until a short prompt has its first token. One more is made: libraries choose the kernels of a step then."""
    context = model.context_length or _PROMPT_TOKENS + _NEW_TOKENS
    prompt = random_prompt(model, min(_PROMPT_TOKENS, max(1, context - _NEW_TOKENS)), random.Random(0))  # noqa: S311
    began = time.monotonic()
    number = decoder.open(prompt, _NEW_TOKENS, Sampling())
    try:
        while not decoder.read(number):
            pass
        made = decoder.advance()
        while not made:
            made = decoder.advance()
        if made[0].token != DAMAGED:
            decoder.advance()
        return made[0].at_s - began
    finally:
        decoder.close(number)
