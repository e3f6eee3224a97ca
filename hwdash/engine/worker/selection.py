"""Which way of decoding a model gets, and why."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from hwdash.core.errors import EngineError
from hwdash.core.text import sanitise_line
from hwdash.engine.message import Load
from hwdash.engine.worker.attention import attention_of_one
from hwdash.engine.worker.chunk import Chunk
from hwdash.engine.worker.compiled import upgrade_of
from hwdash.engine.worker.decoder import Decoder
from hwdash.engine.worker.eager import EagerDecoder
from hwdash.engine.worker.extract import extract, reason_against
from hwdash.engine.worker.failure import is_fault_of_device
from hwdash.engine.worker.fused import fused
from hwdash.engine.worker.graph import GraphDecoder, bucket
from hwdash.engine.worker.keyvalue import GRAIN, flash_problem
from hwdash.engine.worker.library import LibraryDecoder
from hwdash.engine.worker.linear import Dense
from hwdash.engine.worker.loading import BY_LIBRARY, ReadyModel
from hwdash.engine.worker.memory import available_bytes, is_out_of_memory
from hwdash.engine.worker.network import Layer, Network
from hwdash.engine.worker.operation import Heads, Plain
from hwdash.engine.worker.quantized import Holder

_TOKENS_EACH = 1024
"""Tokens of context for which there is room from the start, for each request at once; it grows where more are needed."""
_GROUP_CHUNK = 64
_SHARE = 0.25
"""Of the free memory, so much is taken from the start at most: others use the device, too."""
_log = logging.getLogger(__name__)


def choose_decoder(model: ReadyModel, load: Load) -> Decoder:
    """What computes the tokens of *model* for up to ``load.slots`` requests at once.

    Our own forward pass takes the weights out of ``model.network``; the library's own is for all that it cannot do.
    """
    if isinstance(model.network, Network):
        return _decoder(model, model.network, load, model.choices, model.later)
    against = reason_against(model.network) or _unable(model.device)
    if against and model.group is not None:
        raise EngineError(f"{model.name} cannot be spread over several devices: {against}; choose one device")
    if against:
        return LibraryDecoder(model, load.slots, (f"decoded by the library's own forward pass: {against}",))
    holder = None
    if model.device.type == "cpu" and model.dtype == "fp32" and model.group is None:
        # On a CPU a token costs what its weights take to be read: they are held as small as is allowed.
        holder = Holder(eight_bits=load.quantize)
    network = extract(model.network, holder or Dense, model.group)
    said = (
        model.choices if model.group is not None else tuple(one for one in model.choices if one.startswith(BY_LIBRARY))
    )
    if holder is None:
        return _decoder(model, network, load, said)
    return _decoder(model, network, load, (*said, *holder.words), holder.prepare)


def _decoder(
    model: ReadyModel, network: Network, load: Load, said: tuple[str, ...], later: Callable[[], None] | None = None
) -> Decoder:
    """What computes with *network*; *said* is what there is to say of how it came about, *later* begins what can wait."""
    if model.device.type == "cuda":
        return _captured(model, network, load, said)
    words = "decoded by hwdash's own forward pass, all requests at once; nothing is captured on this kind of device"
    if load.compile:
        said = (*said, "kernels are not compiled in the background where nothing is captured: they are no faster there")
    # Processes of a group read the same chunks, however long each of them takes.
    chunk = None if model.group is None or model.device.type != "cpu" else Chunk("cpu", _GROUP_CHUNK)
    return EagerDecoder(network, load.slots, (words, *said), later, chunk)


def _captured(model: ReadyModel, network: Network, load: Load, said: tuple[str, ...]) -> Decoder:
    flash = flash_problem(network)
    operations, why = fused(model.device, network.dtype, network.embedding.shape[1], _inner(network), network.heads)
    network.use(operations)
    upgrade = None
    if load.compile and model.group is None:
        upgrade = upgrade_of(network, bucket(load.slots), _inner(network))
    elif load.compile:
        said = (*said, "kernels are not compiled in the background for a model over several devices")
    attention = (
        f"attention gathers keys and values first: {flash}" if flash else "attention by flash kernels over the cache"
    )
    try:
        decoder = GraphDecoder(
            network,
            load.slots,
            model.ends,
            _places(model, network, load.slots),
            flash=not flash,
            choices=("each step is one captured graph", attention, why, *said),
            upgrade=upgrade,
        )
        decoder.idle()
        if upgrade is not None:
            upgrade.begin()
    except Exception as error:
        if is_out_of_memory(error) or is_fault_of_device(error, model.device):
            raise
        _log.warning("a step cannot be captured", exc_info=True)
        network.use(Plain())
        reason = sanitise_line(str(error), 160) or type(error).__name__
        return EagerDecoder(network, load.slots, (f"decoded step by step: a step cannot be captured ({reason})",))
    return decoder


def _inner(network: Network) -> int:
    """The widest row inside a feed, or of the hidden ones where feeds are mixtures of experts."""
    feed = network.layers[0].feed
    return int(getattr(getattr(feed, "down", None), "in_features", network.embedding.shape[1]))


def _places(model: ReadyModel, network: Network, slots: int) -> int:
    wanted = slots * min(_TOKENS_EACH, model.context_length or _TOKENS_EACH) + GRAIN
    free = available_bytes(model.device)
    if free is not None:
        wanted = min(wanted, int(_SHARE * free) // network.cache_bytes(1))
    return max(2 * GRAIN, wanted)


def _unable(device: torch.device) -> str:
    """Why our forward pass cannot run on *device*, tried on a few numbers; empty where it can."""
    if device.type in {"cpu", "cuda"}:
        return ""
    try:
        with torch.inference_mode():
            _try_operations(device)
    except Exception as error:
        if is_fault_of_device(error, device):
            raise
        reason = sanitise_line(str(error), 120) or type(error).__name__
        return f"{device.type} lacks an operation of hwdash's own ({reason})"
    return ""


def _try_operations(device: torch.device) -> None:
    heads, plain = Heads(4, 2, 8), Plain()
    angles = torch.ones((3, 4), device=device)
    turned = plain.turn(
        torch.ones((3, 64), device=device), heads, plain.rotation(angles, angles, heads, torch.float32), None, 1e-6
    )
    weight = Dense(torch.ones((8, 8), device=device))
    nothing: Callable[..., torch.Tensor] = weight
    layer = Layer(angles, weight, None, weight, None, 2, angles, _Nothing(nothing))
    attention_of_one(turned[:, :4], turned[:, 4:], 0, layer, heads)
    rows = torch.ones((3, 8), device=device)
    plain.add_norm(rows, plain.gate(torch.cat((rows, rows), dim=-1)), torch.ones(8, device=device), 1e-6)


@dataclass(frozen=True, slots=True)
class _Nothing:
    """A feed that is not asked."""

    product: Callable[..., torch.Tensor]

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return self.product(rows)

    def bytes(self, rows: int) -> int:
        return 0
