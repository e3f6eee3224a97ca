"""The models that can be prompted, and how one comes to this machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model of the store. ``size_bytes`` counts its files; ``ready`` is false while a pull was not finished."""

    name: str
    path: str
    size_bytes: int
    ready: bool
    source: str = ""
    license: str = ""


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull is: the step in words, 0 to 1 within all steps (None: unknown), and the model once it is there."""

    step: str
    progress: float | None = None
    done: ModelInfo | None = None
