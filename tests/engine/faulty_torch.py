"""What a worker of the tests imports in place of a chip's module: it makes loading or computing fail as it is told.

``FAULT_VISIBLE_DEVICES`` is a JSON object: ``free`` (bytes that the device is said to have), ``full_in`` (a precision in
which loading runs out of memory, after all of it was loaded), ``load`` and ``forward`` (words of an error there).
"""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Sequence
from typing import Any

import torch

from hwdash.engine.worker import memory
from hwdash.engine.worker.decoder import Sampling
from hwdash.engine.worker.direct import OpenCheckpoint
from hwdash.engine.worker.eager import EagerDecoder
from hwdash.engine.worker.network import Network

_fault: dict[str, Any] = json.loads(os.environ["FAULT_VISIBLE_DEVICES"])
_load = OpenCheckpoint.network
_lost: list[weakref.ref[Any]] = []


def _faulty_load(checkpoint: OpenCheckpoint, dtype: torch.dtype, *arguments: Any, **options: Any) -> Network:
    if "load" in _fault:
        raise RuntimeError(_fault["load"])
    if any(lost() is not None for lost in _lost):
        raise RuntimeError("what was loaded first is still in memory")
    loaded = _load(checkpoint, dtype, *arguments, **options)
    if dtype == getattr(torch, _fault.get("full_in", ""), None):
        _lost.append(weakref.ref(loaded))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB")
    return loaded


def _free_bytes(device: torch.device) -> int | None:
    return int(_fault["free"])


class _Faulty:
    """The network's computation, which fails once somebody wants more than the few tokens that loading tries."""

    def __init__(self) -> None:
        self._asked = False
        self._open = EagerDecoder.open
        self._forward = Network.forward

    def patch(self) -> None:
        """Stand in for the computation."""

        def opened(decoder: EagerDecoder, prompt: Sequence[int], limit: int, sampling: Sampling) -> int:
            self._asked = self._asked or limit > 4
            return self._open(decoder, prompt, limit, sampling)

        def forward(network: Network, *arguments: Any) -> torch.Tensor:
            if self._asked:
                raise RuntimeError(_fault["forward"])
            return self._forward(network, *arguments)

        EagerDecoder.open = opened  # type: ignore[method-assign, assignment]
        Network.forward = forward  # type: ignore[method-assign, assignment]


OpenCheckpoint.network = _faulty_load  # type: ignore[method-assign, assignment]
if "free" in _fault:
    memory.available_bytes = _free_bytes
if "forward" in _fault:
    _Faulty().patch()
