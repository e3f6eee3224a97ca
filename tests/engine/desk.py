"""A worker's inner parts in this process, over the tiny model. Imports torch: import it inside tests and fixtures only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hwdash.core.inference import Message
from hwdash.engine.message import Done, Failed, FromWorker, Generate, Load, Prefill, Token
from hwdash.engine.worker.batch import Batch
from hwdash.engine.worker.chunk import Chunk
from hwdash.engine.worker.decoder import Decoder, Made, Sampling
from hwdash.engine.worker.library import LibraryDecoder
from hwdash.engine.worker.loading import ReadyModel, load_model

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB"


def asking(number: int, text: str = "hello", max_tokens: int = 12, **more: Any) -> Generate:
    """A request for a greedy answer to plain *text*."""
    return Generate(number, (Message("user", text),), max_tokens, **{"template": False, **more})


def digest_of(tokens: Iterable[int]) -> str:
    """What `Done` has to say of *tokens*."""
    return hashlib.sha256(b"".join(token.to_bytes(4, "little") for token in tokens)).hexdigest()[:16]


class Desk:
    """The tiny model, loaded, with what its library makes of prompts."""

    def __init__(self, directory: Path) -> None:
        load = Load(str(directory), "tiny", "cpu", "fp32", threads=1)
        self.model: ReadyModel = load_model(load, lambda *_: None, direct=False)

    def decoder(self, slots: int = 4) -> LibraryDecoder:
        """A decoder of the model, which reads 128 tokens at once."""
        return LibraryDecoder(self.model, slots, chunk=Chunk("cpu", 128))

    def batch(self, decoder: Decoder | None = None, slots: int = 4) -> Batch:
        """A batch over *decoder* or a fresh one."""
        return Batch(self.model, decoder or self.decoder(slots))

    def with_network(self, network: Any) -> Desk:
        """A desk with another network and the same tokenizer."""
        other = object.__new__(Desk)
        other.model = replace(self.model, network=network.eval(), ends=frozenset())
        return other

    def generated(self, prompt: Sequence[int], count: int) -> list[int]:
        """What ``generate`` makes of *prompt*, greedily and without a look at the end token."""
        made = self.model.network.generate(
            input_ids=torch.tensor([list(prompt)]),
            attention_mask=torch.ones((1, len(prompt)), dtype=torch.long),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
        )
        return [int(token) for token in made[0, len(prompt) :]]

    def answers(self, text: str, count: int) -> list[int]:
        """What ``generate`` makes of plain *text*."""
        return self.generated(self.model.encode(text, False), count)

    def decode(self, prompt: Sequence[int], count: int, sampling: Sampling | None = None) -> list[int]:
        """What the decoder makes of *prompt*, alone."""
        decoder = self.decoder()
        number = decoder.open(prompt, count, sampling or Sampling())
        while not decoder.read(number):
            pass
        return [one.token for _ in range(count) for one in decoder.advance()]


class Faulty:
    """A decoder that does what *decoder* does, and first calls what is set for a method with its arguments.

    ``opening``, ``reading``, ``stepping`` and ``idling`` may raise; ``given`` changes what a step gives.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.kind = "faulty"
        self.choices: tuple[str, ...] = ()
        self.capture_s: float | None = None
        self.slots = decoder.slots
        self.opening: Callable[[Sequence[int]], None] = lambda _: None
        self.reading: Callable[[int], None] = lambda _: None
        self.stepping: Callable[[], None] = lambda: None
        self.idling: Callable[[], None] = lambda: None
        self.given: Callable[[Made], Made | None] = lambda made: made
        self.opened: set[int] = set()
        self._decoder = decoder

    def open(self, prompt: Sequence[int], limit: int, sampling: Sampling) -> int:
        self.opening(prompt)
        number = self._decoder.open(prompt, limit, sampling)
        self.opened.add(number)
        return number

    def read(self, number: int) -> bool:
        self.reading(number)
        return self._decoder.read(number)

    def advance(self) -> Sequence[Made]:
        self.stepping()
        return [given for made in self._decoder.advance() if (given := self.given(made)) is not None]

    def close(self, number: int) -> None:
        self.opened.discard(number)
        self._decoder.close(number)

    def idle(self) -> bool:
        self.idling()
        return bool(self._decoder.idle())

    def read_bytes(self, context: int, batch: int = 1) -> int:
        return self._decoder.read_bytes(context, batch)


def finished(batch: Batch) -> list[FromWorker]:
    """All that is told until nobody is left."""
    messages = list(batch.step())
    while batch.busy:
        messages += batch.step()
    return messages


def until(batch: Batch, condition: Callable[[Sequence[FromWorker]], bool]) -> list[FromWorker]:
    """What is told until *condition* holds for it."""
    messages: list[FromWorker] = []
    while not condition(messages):
        assert batch.busy
        messages += batch.step()
    return messages


def of(messages: Iterable[FromWorker], number: int) -> list[Prefill | Token | Done | Failed]:
    """What was told of one request."""
    kinds = (Prefill, Token, Done, Failed)
    return [message for message in messages if isinstance(message, kinds) and message.id == number]


def done(messages: Iterable[FromWorker], number: int) -> Done:
    """The account of a request that went well."""
    last = of(messages, number)[-1]
    assert isinstance(last, Done), last
    return last


def failed(messages: Iterable[FromWorker], number: int) -> Failed:
    """Why a request failed."""
    last = of(messages, number)[-1]
    assert isinstance(last, Failed), last
    return last


def text(messages: Iterable[FromWorker], number: int) -> str:
    """The answer to a request."""
    return "".join(message.text for message in of(messages, number) if isinstance(message, Token))
