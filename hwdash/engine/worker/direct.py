"""A checkpoint straight from its files: for models whose files leave no doubt, and without importing transformers.

Importing transformers takes longer than all the rest of starting a small model together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from hwdash.core.errors import ModelError
from hwdash.core.text import sanitise_line
from hwdash.engine.checkpoint import Checkpoint, read_object
from hwdash.engine.worker.assembly import Hold, assemble
from hwdash.engine.worker.blueprint import Blueprint, blueprint_of, reason_against_config
from hwdash.engine.worker.network import Network
from hwdash.engine.worker.shelf import Shelf
from hwdash.engine.worker.stored import StoredWeights
from hwdash.engine.worker.vocabulary import FileTokenizer, Unusual, read_vocabulary

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"
_DEVICES = frozenset({"cpu", "cuda"})


@dataclass(frozen=True, slots=True)
class OpenCheckpoint:
    """A checkpoint whose files were looked at, and whose weights can be read now. ``ends`` end an answer."""

    directory: Path
    blueprint: Blueprint
    tokenizer: FileTokenizer
    ends: frozenset[int]
    weights: StoredWeights
    files: tuple[Path, ...]

    @property
    def parameters(self) -> int:
        """How many numbers the network has learnt."""
        return sum(torch.Size(shape).numel() for shape in self.blueprint.shapes.values())

    def shelf(self) -> Shelf:
        """Where its weights in 8 bits are kept."""
        return Shelf(self.directory, self.files)

    def network(
        self, dtype: torch.dtype, device: torch.device, hold: Hold, report: Callable[[float], None], *, as_stored: bool
    ) -> Network:
        """The network with its weights on *device*; *as_stored* as for `StoredWeights.give`.

        Raises `ModelError` for weights that are missing, have another shape than the configuration says, or are NaN or
        infinite, and what torch raises where there is no room.
        """
        self.weights.check(self.directory)
        self.weights.give(dtype, device, report, as_stored=as_stored)
        with torch.inference_mode():
            network = assemble(self.weights, self.blueprint.build_on(device), hold)
            self.weights.check_finite(self.directory)
        return network


def open_directly(checkpoint: Checkpoint, model: str, device: torch.device) -> OpenCheckpoint | str:
    """The checkpoint, ready to be read; or why its files are left to transformers, in words. *model* names it in errors."""
    directory = checkpoint.directory
    if device.type not in _DEVICES:
        return f"its device is {device.type}"
    config = read_object(directory / "config.json")
    try:
        if against := reason_against_config(config) or _against_files(checkpoint):
            return against
        blueprint = blueprint_of(config)
        weights = StoredWeights(checkpoint.weights, blueprint.shapes)
        if against := weights.reason_against():
            return against
        tokenizer = read_vocabulary(directory, model, config)
        ends = tokenizer.ends | _ends(config) | _ends(_generation(directory))
    except Unusual as reason:
        return sanitise_line(str(reason), 200)
    except (SafetensorError, OSError):
        return "its files cannot be read as they are"
    return OpenCheckpoint(directory, blueprint, tokenizer, ends, weights, checkpoint.weights)


def _against_files(checkpoint: Checkpoint) -> str:
    directory = checkpoint.directory
    if (directory / _ADAPTER).exists():
        return "an adapter belongs to it"
    single, several = (directory / _SINGLE).exists(), (directory / _INDEX).exists()
    if single == several or (single and len(checkpoint.weights) > 1):
        return "it has several sets of weights"
    return ""


def _generation(directory: Path) -> Mapping[str, Any]:
    path = directory / "generation_config.json"
    if not path.exists():
        return {}
    try:
        return read_object(path)
    except ModelError as error:
        raise Unusual(str(error)) from None


def _ends(settings: Mapping[str, Any]) -> frozenset[int]:
    given = settings.get("eos_token_id")
    numbers = given if isinstance(given, list) else [] if given is None else [given]
    if any(not isinstance(number, int) or isinstance(number, bool) for number in numbers):
        raise Unusual("the tokens that end an answer are no numbers")
    return frozenset(numbers)
