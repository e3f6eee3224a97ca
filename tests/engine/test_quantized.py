"""Weights held in fp16 and in 8 bits against the same weights as they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdash.engine.worker.linear import Dense
from hwdash.engine.worker.quantized import MOST_ERROR, Half, Holder, Int8, available, fits_half, quantize

pytestmark = pytest.mark.skipif(not available(), reason="this processor lacks AVX2")

_SIZES = st.integers(1, 300)


def _drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _difference(mine: torch.Tensor, theirs: torch.Tensor) -> float:
    assert mine.shape == theirs.shape
    assert mine.dtype == theirs.dtype
    return float((mine - theirs).norm() / theirs.norm().clamp(min=1e-6))


@settings(deadline=None, max_examples=60)
@given(out=_SIZES, inputs=_SIZES, rows=st.integers(1, 5), bias=st.booleans(), seed=st.integers(0, 99))
def test_eight_bits_give_the_product_of_the_numbers_that_they_hold(
    out: int, inputs: int, rows: int, bias: bool, seed: int
) -> None:
    weight, extra = _drawn(seed, out, inputs), _drawn(seed + 1, out) if bias else None
    x = _drawn(seed + 2, rows, inputs)
    exact = Dense(weight, extra)(x)
    eight = Int8(weight, extra)
    assert eight.in_features == inputs
    assert eight.out_features == out
    # Each weight is off by half a step at most, of 255 in the range of its run.
    furthest = float((weight.amax() - weight.amin()) / 255 / 2) * x.abs().sum(1, keepdim=True)
    # One row goes another way than many, and both multiply by the same numbers, up to the rounding of fp16.
    rounding = 2**-10 * x.abs() @ weight.abs().t() + 1e-4
    assert bool(((eight(x) - exact).abs() <= furthest + rounding).all())
    apart = torch.cat([eight(row[None]) for row in x])
    assert bool(((apart - eight(x)).abs() <= rounding).all())


@settings(deadline=None, max_examples=40)
@given(out=_SIZES, inputs=_SIZES, rows=st.integers(1, 9), bias=st.booleans(), seed=st.integers(0, 99))
def test_fp16_is_exact_for_weights_of_bf16(out: int, inputs: int, rows: int, bias: bool, seed: int) -> None:
    weight, extra = _drawn(seed, out, inputs).clamp(-3, 3).bfloat16(), _drawn(seed + 1, out) if bias else None
    weight[weight.abs() < 2**-6] = 0  # what bf16 has below fp16's range
    assert fits_half(weight)
    x = _drawn(seed + 2, rows, inputs)
    torch.testing.assert_close(Half(weight, extra)(x), Dense(weight.float(), extra)(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("number", [1e5, 1 + 2**-12, 1e-9, float("nan"), float("inf")])
def test_a_number_that_fp16_does_not_hold_keeps_fp32(number: float) -> None:
    weight = torch.ones((96, 64))
    weight[7, 9] = number
    assert fits_half(weight) == (number == float("inf"))
    if number == float("inf"):
        return
    held = Holder(eight_bits=False)
    linear = held(weight)
    assert isinstance(linear, Dense)
    assert held.words == ("weights held in fp32",)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_damage_is_not_hidden_by_quantizing(number: float) -> None:
    weight = _drawn(0, 96, 64)
    weight[3, 5] = number
    linear, _ = quantize(weight)
    assert not isinstance(linear, Int8)
    assert not bool(linear(torch.ones((1, 64))).isfinite().all())


def test_normal_weights_are_within_the_bound_and_outliers_are_not() -> None:
    weight = _drawn(1, 192, 128).bfloat16()
    linear, words = quantize(weight)
    assert isinstance(linear, Int8)
    assert 0.003 < linear.error < 0.008 < MOST_ERROR
    assert words == "1 of 1 weights held in 8 bits, 0.6% off on average"
    weight[5] *= 100
    assert fits_half(weight)
    linear, words = quantize(weight)
    assert isinstance(linear, Half)
    assert words == "1 of 1 weights held in fp16, which is exact for them"


def test_a_holder_tells_of_all_it_held() -> None:
    held = Holder(eight_bits=True)
    for seed in range(3):
        held(_drawn(seed, 64, 64))
    rough = _drawn(9, 64, 64).bfloat16()
    rough[0] = 1000.0
    held(rough)
    assert held.dtype == "int8"
    assert held.words == (
        "3 of 4 weights held in 8 bits, 0.5% off on average",
        "1 of 4 weights held in fp16, which is exact for them",
    )
    assert Holder(eight_bits=True).words == ()


def test_a_product_can_be_made_inside_and_outside_of_inference_mode() -> None:
    weight, x = _drawn(3, 100, 40), _drawn(4, 1, 40)
    with torch.inference_mode():
        inside = Int8(weight)
        first = inside(x).clone()
    with torch.no_grad():
        assert torch.equal(inside(x), first)
        assert torch.equal(Int8(weight)(x), first)


def test_bytes_are_what_a_product_reads() -> None:
    weight = _drawn(5, 960, 576)
    assert Dense(weight).bytes == 4 * weight.numel()
    assert Half(weight).bytes == 2 * weight.numel()
    assert weight.numel() < Int8(weight).bytes < 1.1 * weight.numel()
    eight = Int8(weight, _drawn(6, 960, 1)[:, 0])
    assert eight.bytes_for(1) == eight.bytes
    assert eight.bytes_for(2) == eight.bytes_for(15) == 2 * weight.numel() + 4 * 960
    assert eight.bytes_for(16) == eight.bytes + 4 * weight.numel()
    for other in (Dense(weight), Half(weight)):
        assert other.bytes_for(9) == other.bytes


def test_what_a_step_reads_depends_on_how_many_it_is_for() -> None:
    from hwdash.engine.worker.eager import EagerDecoder
    from hwdash.engine.worker.extract import extract
    from hwdash.engine.worker.quantized import Holder
    from tests.engine.family import model_of

    model = model_of("llama")
    network = extract(model, Holder(eight_bits=True))
    decoder = EagerDecoder(network, 8)
    one, two, many = (decoder.read_bytes(0, rows) for rows in (1, 2, 16))
    numbers = sum(linear.in_features * linear.out_features for linear in _linears(network))
    assert numbers < one < 1.5 * numbers
    assert 2 * numbers < two < 2.1 * numbers
    assert many > 5 * numbers


def _linears(network: Any) -> list[Any]:
    feeds = [(layer.feed.gate_up, layer.feed.down) for layer in network.layers]
    return [network.head, *sum(feeds, ()), *(linear for layer in network.layers for linear in (layer.qkv, layer.out))]
