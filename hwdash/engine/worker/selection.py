"""Which way of decoding a model gets."""

from __future__ import annotations

from hwdash.engine.message import Load
from hwdash.engine.worker.decoder import Decoder
from hwdash.engine.worker.library import LibraryDecoder
from hwdash.engine.worker.loading import ReadyModel


def choose_decoder(model: ReadyModel, load: Load) -> Decoder:
    """What computes the tokens of *model* for up to ``load.slots`` requests at once."""
    return LibraryDecoder(model, load.slots, ("decoded by the library's own forward pass, which every model has",))
