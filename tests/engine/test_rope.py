"""Rotary embeddings from a configuration, compared with transformers' own."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

_SIZES = {"hidden_size": 64, "num_attention_heads": 2, "max_position_embeddings": 4096}
_factors = st.floats(1.5, 40)


def _theirs(scaling: dict[str, Any], theta: float, width: int) -> tuple[Any, float]:
    import transformers
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = transformers.LlamaConfig(**{**_SIZES, "head_dim": width}, rope_parameters={**scaling, "rope_theta": theta})
    embedding = LlamaRotaryEmbedding(config)
    return embedding.inv_freq, float(embedding.attention_scaling)


_scalings = st.one_of(
    st.just({"rope_type": "default"}),
    st.builds(lambda factor: {"rope_type": "linear", "factor": factor}, _factors),
    st.builds(
        lambda factor, low, more, context: {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": low + more,
            "original_max_position_embeddings": context,
        },
        _factors,
        st.floats(0.5, 4),
        st.floats(0.5, 8),
        st.sampled_from([64, 1024, 8192]),
    ),
    st.builds(
        lambda factor, context, more: {
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": context,
            **more,
        },
        _factors,
        st.sampled_from([256, 2048, 4096]),
        st.sampled_from(
            [
                {},
                {"truncate": False},
                {"attention_factor": 0.7},
                {"beta_fast": 20.0, "beta_slow": 2.0},
                {"mscale": 0.8, "mscale_all_dim": 1.2},
            ]
        ),
    ),
)


@settings(max_examples=120, deadline=None)
@given(_scalings, st.sampled_from([1e4, 5e5, 1e6]), st.sampled_from([16, 64, 128]), st.booleans())
def test_frequencies_are_those_of_transformers(scaling: dict[str, Any], theta: float, width: int, older: bool) -> None:
    import torch

    from hwdash.engine.worker.rope import frequencies, rotation_of

    spelled: dict[str, Any] = {"rope_parameters": {**scaling, "rope_theta": theta}}
    if older:
        spelled = {"rope_theta": theta, "rope_scaling": None if scaling == {"rope_type": "default"} else scaling}
        if older and spelled["rope_scaling"] and width == 64:  # oldest of all
            spelled["rope_scaling"] = {**scaling, "type": scaling["rope_type"]}
            del spelled["rope_scaling"]["rope_type"]
    rotation, against = rotation_of({**_SIZES, **spelled})
    assert against == ""
    turning, scale = frequencies(rotation, width)
    expected, expected_scale = _theirs(dict(scaling), theta, width)
    torch.testing.assert_close(turning, expected, rtol=2e-6, atol=0)
    assert scale == pytest.approx(expected_scale)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "rope_theta"),
        ({"rope_theta": 1e4, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"rope_theta": 1e4, "rope_scaling": {"rope_type": ["linear"], "factor": 2.0}}, "linear"),
        ({"rope_theta": 1e4, "rope_scaling": {"rope_type": "linear"}}, "factor"),
        ({"rope_parameters": {"full": {"rope_type": "default", "rope_theta": 1e4}}}, "several"),
        ({"rope_theta": 1e4, "partial_rotary_factor": 0.5}, "part"),
        ({"rope_theta": 0.5}, "sense"),
        ({"rope_scaling": {"rope_theta": 1e4}, "rope_parameters": {"rope_theta": 1e5}}, "twice"),
    ],
)
def test_what_leaves_doubt_is_not_used(config: dict[str, Any], told: str) -> None:
    from hwdash.engine.worker.rope import rotation_of

    assert told in rotation_of(config)[1]
