"""Measurements of a device by the engine: what to run on it, and what was seen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Load(StrEnum):
    """What keeps the device busy."""

    COPY = "copy"
    MATMUL = "matmul"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to run. ``batch`` sequences at once, each with a prompt of ``prompt_tokens`` random tokens.

    DECODE makes ``new_tokens`` tokens of each; PREFILL reads the prompts ``repeats`` times; COPY and MATMUL run
    ``repeats`` times, MATMUL in ``dtype`` (None: the model's). With ``seconds`` it goes on that long instead, whatever
    the counts say, and tells of itself every ``report_s``.
    """

    load: Load
    batch: int = 1
    prompt_tokens: int = 64
    new_tokens: int = 64
    repeats: int = 5
    dtype: str | None = None
    seconds: float | None = None
    report_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Measured:
    """What a task came to since the `Measured` before it; ``last`` ends the task.

    Times are seconds; ``began_s`` and ``ended_s`` of ``CLOCK_MONOTONIC``. ``steps_s`` are the durations of single steps:
    decode steps (each makes a token of every sequence), prompts read, copies or products. ``tokens`` were made by
    DECODE or read by PREFILL. ``bytes`` were read and written by COPY, or read (weights and cache) by DECODE; ``flops``
    were computed by MATMUL. ``problem`` is why the task could not run (no memory for this batch, say), else empty.
    """

    began_s: float
    ended_s: float
    steps_s: tuple[float, ...] = ()
    tokens: int = 0
    bytes: int = 0
    flops: float = 0.0
    last: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """How a model came to lie on a device, and how it computes there.

    ``start_s`` starting the process, ``import_s`` importing torch and transformers, ``load_s`` reading and moving the
    weights, ``first_token_s`` the first prompt's first token after that. ``decoder`` names the way of decoding
    (``graph``, ``eager``, ``library``), ``choices`` say in words why that one, and why these implementations of
    attention, experts and weights. ``read_bytes`` of weights are read for one token at batch 1.
    """

    dtype: str
    parameters: int
    memory_bytes: int
    context_length: int | None = None
    decoder: str = ""
    choices: tuple[str, ...] = ()
    read_bytes: int | None = None
    start_s: float | None = None
    import_s: float | None = None
    load_s: float | None = None
    first_token_s: float | None = None
    capture_s: float | None = None


@dataclass(frozen=True, slots=True)
class MeasurePlan:
    """Load *model* afresh in *dtype* (None: the device's own choice) and run *tasks* one after another."""

    model: str
    tasks: tuple[Task, ...]
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What task number ``task`` of a plan (from 0) came to."""

    task: int
    measured: Measured


MeasureReport: TypeAlias = LoadedModel | TaskReport
"""What comes of a plan besides stages: one `LoadedModel`, then the reports of its tasks in order."""
