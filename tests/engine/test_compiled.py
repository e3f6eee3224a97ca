"""Compiled operations: made in the background, compared, timed, taken over between two steps, given up where they fail."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.family import generated, model_of, prompt_of


class Compiling:
    """A compiler that changes nothing, counts the calls of what it made, and may be set to do worse."""

    def __init__(self, *, factor: float = 1.0, error: str = "") -> None:
        self.calls = 0
        self._factor = factor
        self._error = error

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def compiled(*arguments: Any) -> Any:
            if self._error:
                raise RuntimeError(self._error)
            self.calls += 1
            made = function(*arguments)
            return tuple(one * self._factor for one in made) if isinstance(made, tuple) else made * self._factor

        return compiled


def upgrade_of(network: Any, compiler: Compiling, *seconds: float, failing: bool = False) -> Any:
    """An upgrade of 1, 2 and 4 rows that takes 14 seconds; *seconds* are those of each measurement in turn."""
    from hwdash.engine.worker import compiled
    from hwdash.engine.worker.likeness import sample_of

    layer = network.layers[0]
    samples = [
        sample_of(rows, network.heads, 96, layer.feed_norm, layer.head_norm, network.epsilon) for rows in (1, 2, 4)
    ]
    clock, measured = itertools.count(0, 14.0), iter(seconds)

    def stopwatch(call: Callable[[], object]) -> float:
        if failing:
            raise RuntimeError("the stopwatch broke")
        call()
        return next(measured)

    return compiled.Upgrade(
        samples, network.operations, compiler=compiler, stopwatch=stopwatch, clock=lambda: next(clock)
    )


def finish(upgrade: Any) -> None:
    """Compile to the end."""
    assert not upgrade.ready
    upgrade.begin()
    upgrade._thread.join(60)
    assert upgrade.ready


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Has an entry once compiling is forbidden; the setting is one of the whole process."""
    from hwdash.engine.worker import graph

    entries: list[bool] = []
    monkeypatch.setattr(graph, "forbid_compiling", lambda: entries.append(True))
    return entries


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_faster_ones_take_over_between_two_steps(family: str, forbidden: list[bool]) -> None:
    from hwdash.engine.worker.compiled import Compiled
    from hwdash.engine.worker.extract import extract
    from tests.engine.stepwise import Bench

    model = model_of(family)
    expected = generated(model, prompt_of(30), 25)
    network, compiler = extract(model), Compiling()
    upgrade = upgrade_of(network, compiler, 1.0, 3.0, 1.0, 2.0)
    bench = Bench(model, network=network, upgrade=upgrade, choices=("captured",))
    assert bench.decoder.choices == ("captured", "better kernels are compiled in the background")
    number = bench.open(prompt_of(30), 25)
    bench.advance(6)
    finish(upgrade)
    captured, calls = bench.capture.captured, compiler.calls
    bench.advance(25)
    words = "compiled kernels took over after 14 s: small operations are 25% faster"
    assert bench.decoder.choices == ("captured", words)
    assert isinstance(network.operations, Compiled)
    assert bench.capture.captured == captured + 1
    assert compiler.calls > calls
    assert forbidden == [True]
    assert bench.tokens[number] == expected


def test_slower_ones_are_not_used(forbidden: list[bool]) -> None:
    from hwdash.engine.worker.extract import extract
    from tests.engine.stepwise import Bench

    model = model_of("llama")
    network = extract(model)
    before = network.operations
    upgrade = upgrade_of(network, Compiling(), 1.0, 1.0, 1.0, 0.99)
    bench = Bench(model, network=network, upgrade=upgrade)
    finish(upgrade)
    bench.decoder.idle()
    assert network.operations is before
    assert bench.decoder.choices == ("compiled kernels were ready after 14 s and not faster: they are not used",)
    assert not forbidden


@pytest.mark.parametrize(
    ("compiler", "failing", "words"),
    [
        (
            Compiling(error="Failed to find C compiler"),
            False,
            "compiled kernels are not used: Failed to find C compiler",
        ),
        (Compiling(factor=1.5), False, "compiled kernels are not used: they are off by"),
        (Compiling(factor=float("nan")), False, "compiled kernels are not used: they are off by 100.0% here"),
        (Compiling(), True, "compiled kernels are not used: the stopwatch broke"),
    ],
)
def test_what_goes_wrong_is_said_and_nothing_else_happens(
    compiler: Compiling, failing: bool, words: str, forbidden: list[bool]
) -> None:
    from hwdash.engine.worker.extract import extract
    from tests.engine.stepwise import Bench

    model = model_of("llama")
    expected = generated(model, prompt_of(9), 5)
    network = extract(model)
    before = network.operations
    upgrade = upgrade_of(network, compiler, failing=failing)
    bench = Bench(model, network=network, upgrade=upgrade)
    finish(upgrade)
    number = bench.open(prompt_of(9), 5)
    bench.advance(8)
    assert bench.tokens[number] == expected
    assert bench.decoder.choices[0].startswith(words)
    assert network.operations is before
    assert not forbidden


@pytest.mark.usefixtures("forbidden")
def test_a_step_that_cannot_be_captured_with_them_is_captured_as_before() -> None:
    from hwdash.engine.worker.extract import extract
    from tests.engine.stepwise import Bench

    model = model_of("llama")
    expected = generated(model, prompt_of(9), 12)
    network = extract(model)
    before = network.operations
    upgrade = upgrade_of(network, Compiling(), 2.0, 2.0, 1.0, 1.0)
    bench = Bench(model, network=network, upgrade=upgrade)
    number = bench.open(prompt_of(9), 12)
    bench.advance(3)
    finish(upgrade)
    bench.capture.failures.append(RuntimeError("recompiling is not allowed"))
    bench.advance(15)
    assert bench.tokens[number] == expected
    assert network.operations is before
    assert bench.decoder.choices == ("compiled kernels are not used: recompiling is not allowed",)


def test_rows_that_were_not_compiled_keep_the_operations_from_before() -> None:
    import torch

    from hwdash.engine.worker.compiled import Compiled
    from hwdash.engine.worker.likeness import difference, sample_of
    from hwdash.engine.worker.operation import Heads, Plain

    compiler = Compiling(factor=2.0)
    made = Compiled(compiler, (1, 2), Plain())
    weight = torch.ones(64)
    assert difference(made, sample_of(3, Heads(4, 2, 16), 96, weight, None, 1e-6)) == 0
    assert compiler.calls == 0
    assert difference(made, sample_of(2, Heads(4, 2, 16), 96, weight, None, 1e-6)) >= 1
    assert compiler.calls == 4


def test_where_nothing_is_captured_it_is_said_that_nothing_is_compiled(tiny_model: Path) -> None:
    from hwdash.engine.message import Load
    from hwdash.engine.worker.loading import load_model
    from hwdash.engine.worker.selection import choose_decoder

    load = Load(str(tiny_model), "tiny", "cpu", "fp32", threads=1, compile=True)
    choices = choose_decoder(load_model(load, lambda *_: None), load).choices
    assert any(words.startswith("kernels are not compiled in the background") for words in choices), choices
