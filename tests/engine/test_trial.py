"""Trials of precisions with a clock that says how long each product took, and real ones on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hwdash.core.trial import DtypeTrial
from hwdash.engine.worker import trial as module
from hwdash.engine.worker.quantized import available
from hwdash.engine.worker.trial import judged, try_dtypes

CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HOST_WEIGHTS", (96, 64))
    monkeypatch.setattr(module, "_HOST_SIDE", 32)


def slow_clock(monkeypatch: pytest.MonkeyPatch, slow: dict[torch.dtype, float]) -> Callable[[], float]:
    """A clock that moves only by products of a row: a millisecond each, or what *slow* says of the row's precision."""
    now = [0.0]

    def multiply(linears: object, row: torch.Tensor) -> None:
        now[0] += slow.get(row.dtype, 1e-3)

    monkeypatch.setattr(module, "_multiply", multiply)
    return lambda: now[0]


@pytest.mark.usefixtures("small")
def test_what_is_slower_than_fp32_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = slow_clock(monkeypatch, {torch.bfloat16: 5e-3, torch.float16: 1.05e-3})
    trials = {trial.dtype: trial for trial in try_dtypes(CPU, ("bf16", "fp16"), clock)}
    weights = 96 * 64 * 16
    assert trials["fp32"].weights_per_s == pytest.approx(weights / 1e-3)
    assert trials["bf16"].weights_per_s == pytest.approx(weights / 5e-3)
    assert trials["bf16"].bytes_per_s == pytest.approx(2 * weights / 5e-3)
    assert trials["bf16"].emulated
    assert not trials["fp32"].emulated
    assert not trials["fp16"].emulated  # nearer than a short measurement can tell apart


@pytest.mark.usefixtures("small")
def test_a_real_trial_has_figures_and_says_what_it_could_not_try() -> None:
    trials = {trial.dtype: trial for trial in try_dtypes(CPU, ("bf16", "bf16", "fp4"))}
    assert list(trials) == ["fp32", "bf16", "fp4", *(["int8"] if available() else [])]
    for dtype in ("fp32", "bf16"):
        trial = trials[dtype]
        assert trial.problem == ""
        assert trial.flops_per_s is not None
        assert trial.flops_per_s > 0
        assert trial.weights_per_s is not None
        assert trial.weights_per_s > 0
    assert trials["fp4"] == DtypeTrial("fp4", problem="torch has no product in fp4")
    if available():
        assert trials["int8"].weights_per_s is not None


@pytest.mark.usefixtures("small")
def test_a_precision_that_torch_refuses_is_a_problem_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> torch.Tensor:
        raise RuntimeError("not implemented\x1b[31m for 'Half'")

    monkeypatch.setattr(torch, "mm", refuse)
    monkeypatch.setattr(module, "_multiply", refuse)
    fp32, half = try_dtypes(CPU, ("fp16",))[:2]
    assert half.problem.startswith("not implemented")
    assert "\x1b" not in half.problem
    assert (half.flops_per_s, half.weights_per_s, half.emulated) == (None, None, False)
    assert fp32.problem


def test_nothing_is_judged_without_fp32() -> None:
    trials = (DtypeTrial("bf16", 1.0, 1.0, 1.0), DtypeTrial("fp32", problem="no"))
    assert judged(trials) == trials
