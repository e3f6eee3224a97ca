"""What ``hwdash bench`` asks for and finds: how fast a device is with a model, per precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from hwdash.core.inference import AUTO, Conditions, StageEvent
from hwdash.core.measurement import LoadedModel

MAX_TRIED = 16
"""The most precisions, batches or lengths of prompts that one bench tries."""
MAX_BATCH = 1024
MAX_PROMPT_TOKENS = 1_000_000
MAX_NEW_TOKENS = 100_000


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """``device`` is an id, a key or ``auto``; ``model`` empty: the daemon's default one, for whoever asks it over HTTP.

    ``dtypes`` empty: the device's own choice. ``batches`` and ``prompt_tokens`` are what is tried, as far as model and
    memory allow; ``new_tokens`` are made of each sequence.
    """

    model: str
    device: str = AUTO
    dtypes: tuple[str, ...] = ()
    batches: tuple[int, ...] = (1, 4, 16, 32)
    prompt_tokens: tuple[int, ...] = (32, 128, 512, 2048)
    new_tokens: int = 128


@dataclass(frozen=True, slots=True)
class PrefillFigure:
    """Time to the first token of a prompt of ``prompt_tokens``: the median of several."""

    prompt_tokens: int
    ttft_s: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class DecodeFigure:
    """Decoding of ``batch`` sequences at once. ``tokens_per_s`` is of all together, ``bandwidth_ratio`` the share of the
    device's measured copy bandwidth at which weights and cache were read; energies are those of one token. ``new_tokens``
    were made of each sequence, after a prompt of ``prompt_tokens``; None in reports that do not tell it."""

    batch: int
    itl_p50_s: float
    itl_p99_s: float
    tokens_per_s: float
    bandwidth_ratio: float | None = None
    joules_per_token: float | None = None
    idle_joules_per_token: float | None = None
    new_tokens: int | None = None
    prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class DtypeFigures:
    """What was measured in one precision; ``problem`` says why there is nothing, or where it ended."""

    dtype: str
    loaded: LoadedModel | None = None
    prefill: tuple[PrefillFigure, ...] = ()
    decode: tuple[DecodeFigure, ...] = ()
    conditions: Conditions = field(default_factory=Conditions)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class BenchComparison:
    """A figure beside the device's own baseline: the median of earlier runs. ``ratio`` is new over old."""

    dtype: str
    figure: str
    now: float
    baseline: float
    ratio: float
    runs: int
    since: datetime
    words: str = ""


@dataclass(frozen=True, slots=True)
class BenchReport:
    """A finished bench. ``copy_bytes_per_s`` is the measured copy bandwidth, read and written bytes together.

    ``versions`` are those of driver, torch, transformers and hwdash. ``comparisons`` are with earlier reports of the same device and model."""

    id: str
    started_at: datetime
    total_s: float
    device: str
    device_key: str
    device_name: str
    model: str
    energy_scope: str | None = None
    copy_bytes_per_s: float | None = None
    versions: tuple[tuple[str, str], ...] = ()
    dtypes: tuple[DtypeFigures, ...] = ()
    comparisons: tuple[BenchComparison, ...] = ()


@dataclass(frozen=True, slots=True)
class BenchStep:
    """What the bench does now, in words, and how far it is."""

    device: str
    words: str
    progress: float | None = None


@dataclass(frozen=True, slots=True)
class BenchFinished:
    """The last event of a bench."""

    report: BenchReport


BenchEvent: TypeAlias = StageEvent | BenchStep | BenchFinished
"""What a client receives of a bench; the last one is `BenchFinished`, or an error instead of it."""


@dataclass(frozen=True, slots=True)
class BenchHistory:
    """Reports of earlier benches, oldest first."""

    reports: tuple[BenchReport, ...]
