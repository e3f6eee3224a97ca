"""The weights of a checkpoint straight from its safetensors files, one at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from hwdash.engine.worker.assembly import EMBEDDING, HEAD
from hwdash.engine.worker.weight import damaged, lacking, misshapen

_DTYPES = frozenset({"F32", "F16", "BF16"})
_BASE = "model."
"""What the names begin with where the file has a head; one without may leave it out."""
_REPORT_S = 0.2


class StoredWeights:
    """A `hwdash.engine.worker.assembly.Source` over safetensors *files*, of which *shapes* are the weights to take.

    They come as `give` says, to the host in single precision until then.
    """

    def __init__(self, files: Sequence[Path], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._shapes = shapes
        self._files: dict[str, Any] = {}
        for path in files:
            file = safe_open(path, framework="pt")
            self._files.update(dict.fromkeys(file.keys(), file))
        self._dtype, self._device = torch.float32, torch.device("cpu")
        self._as_stored = False
        self._report: Callable[[float], None] = lambda share: None
        self._total = max(1, sum(torch.Size(shape).numel() for shape in shapes.values()))
        self._done, self._told = 0, time.monotonic()
        self._extremes: dict[str, torch.Tensor] = {}

    def reason_against(self) -> str:
        """Why these weights cannot be read here; empty where they can, or where something is wrong with them."""
        for name in filter(self._stored, self._shapes):
            if (kind := self._about(name).get_dtype()) not in _DTYPES:
                return f"its weights are stored as {kind}"
        return "its head is stored beside the embedding" if HEAD not in self._shapes and HEAD in self._files else ""

    def check(self, directory: Path) -> None:
        """Raise `ModelError` for weights that are missing or have another shape than they ought to."""
        if missing := sorted(name for name in self._shapes if not self._stored(name)):
            raise lacking(directory, missing)
        for name, shape in sorted(self._shapes.items()):
            has = self._about(name).get_shape()
            if tuple(has) != shape:
                raise misshapen(directory, name, has, shape)

    def give(
        self, dtype: torch.dtype, device: torch.device, report: Callable[[float], None], *, as_stored: bool
    ) -> None:
        """From now on weights are taken in *dtype* on *device*, and *report* is told how many are, 0 to 1.

        With *as_stored* matrices come as the file has them, and as long as nobody changes the file: for who makes
        something else of them at once.
        """
        self._dtype, self._device, self._report, self._as_stored = dtype, device, report, as_stored
        self._done = 0
        self._extremes.clear()

    def has(self, name: str) -> bool:
        """Whether the network has a weight *name*."""
        return name in self._shapes

    def take(self, name: str) -> torch.Tensor:
        """The weight *name*."""
        stored = self._files[self._stored(name)].get_tensor(self._stored(name))
        as_stored = self._as_stored and stored.dtype is not self._dtype and stored.dim() > 1 and name != EMBEDDING
        if as_stored:
            weight = stored
        elif self._device.type == "cpu":
            weight = stored.to(self._dtype, copy=True)  # what lies in the file would change with the file
        else:
            weight = stored.to(self._device).to(self._dtype)
        if weight.numel():
            self._extremes[name] = torch.stack(torch.aminmax(weight)).float()
        self._done += weight.numel()
        if time.monotonic() - self._told >= _REPORT_S:
            self._told = time.monotonic()
            self._report(self._done / self._total)
        return weight

    def check_finite(self, directory: Path) -> None:
        """Raise `ModelError` where a weight that was taken has a NaN or an infinity in it."""
        if not self._extremes:
            return
        finite = torch.stack(list(self._extremes.values())).isfinite().all(dim=1).tolist()
        if bad := [name for name, fine in zip(self._extremes, finite, strict=True) if not fine]:
            raise damaged(directory, bad)

    def _stored(self, name: str) -> str:
        """By which name the files have the weight *name*; empty where they have it by none."""
        if name in self._files:
            return name
        bare = name.removeprefix(_BASE)
        return bare if bare in self._files else ""

    def _about(self, name: str) -> Any:
        return self._files[self._stored(name)].get_slice(self._stored(name))
