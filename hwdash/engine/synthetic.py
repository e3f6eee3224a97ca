"""Models that are a shape only: a configuration that is shipped or lies on this machine, and weights drawn when loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hwdash.core.errors import ModelError, UnknownModel
from hwdash.core.model import SYNTHETIC, SYNTHETIC_SHAPES, ModelShape, is_synthetic
from hwdash.core.text import sanitise_line
from hwdash.engine.checkpoint import read_object
from hwdash.engine.shape import shape_of

_CONFIG = "config.json"
_SHIPPED = Path(__file__).parent / "shape_config"
_MOST_PARAMETERS = 10**14
_SIZES: Mapping[str, int] = MappingProxyType(
    {
        "num_hidden_layers": 1024,
        "num_attention_heads": 4096,
        "num_key_value_heads": 4096,
        "hidden_size": 262_144,
        "intermediate_size": 4_194_304,
        "moe_intermediate_size": 4_194_304,
        "head_dim": 8192,
        "vocab_size": 16_777_216,
        "max_position_embeddings": 1_073_741_824,
        "num_experts": 65_536,
        "num_local_experts": 65_536,
    }
)
"""The largest sizes that are taken, some times those of the largest models there are."""


def config_path(name: str) -> Path:
    """The configuration behind *name*, one of ``synthetic:…``; it may be missing where the name holds a path.

    A path is that of a directory with a ``config.json``, or of that file. Raises `UnknownModel` for what is neither a
    shape nor an absolute path.
    """
    wanted = name.removeprefix(SYNTHETIC)
    if wanted in SYNTHETIC_SHAPES:
        return _SHIPPED / f"{wanted}.json"
    if is_synthetic(name) and wanted.startswith("/"):
        path = Path(wanted)
        return path if path.name == _CONFIG else path / _CONFIG
    raise UnknownModel(
        f"there is no shape {sanitise_line(wanted, 100)!r}; give {SYNTHETIC} with one of {', '.join(SYNTHETIC_SHAPES)}, "
        "or with the absolute path of a directory that holds a config.json",
        param="model",
    )


def resolve_synthetic(name: str) -> Path:
    """The file with the configuration of *name*.

    Raises `UnknownModel` where there is none and `ModelError` where it is none.
    """
    path = config_path(name)
    if not path.parent.is_dir():
        raise UnknownModel(f"there is no model directory {sanitise_line(str(path.parent))}", param="model")
    _check_sizes(path, read_object(path, "give another one"))
    return path


def _check_sizes(path: Path, config: Mapping[str, Any]) -> None:
    """Raise `ModelError` that names the first size which no model has: a library would compute with it for hours."""
    text = config.get("text_config")
    sizes = text if isinstance(text, Mapping) else config
    for name, most in _SIZES.items():
        value = sizes.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            told = sanitise_line(repr(value), 40)
            raise ModelError(f"{path}: {name} must be a whole number from 1 to {most:,}, not {told}", param="model")
    heads, groups = sizes.get("num_attention_heads"), sizes.get("num_key_value_heads")
    if isinstance(heads, int) and isinstance(groups, int) and heads % groups:
        raise ModelError(
            f"{path}: num_attention_heads ({heads}) must be a multiple of num_key_value_heads ({groups})", param="model"
        )


def synthetic_shape(path: Path) -> ModelShape | None:
    """The shape of the model that the configuration in the file *path* describes, as `loaded_config` changes it.

    None where its parameters cannot be counted without building it. Raises `ModelError` where there is none.
    """
    config = loaded_config(path)
    parameters, of_experts = _counts(config)
    return shape_of(config, parameters, of_experts) if parameters <= _MOST_PARAMETERS else None


def loaded_config(path: Path) -> dict[str, Any]:
    """The configuration in the file *path* without what concerns stored weights: quantization and code of their own.

    Raises `ModelError` where there is none.
    """
    config = read_object(path, "give another one")
    return {key: value for key, value in config.items() if key not in {"quantization_config", "auto_map"}}


def _counts(config: Mapping[str, Any]) -> tuple[int, int]:
    """How many parameters the model of *config* has, and how many of them belong to experts; zeros: not known here.

    As transformers builds the families that are named here.
    """
    try:
        match config.get("model_type"):
            case "llama" | "mistral" | "qwen2" | "qwen3":
                layers = int(config["num_hidden_layers"])
                return _outside(config) + layers * (_attention(config) + _dense_feed(config)), 0
            case "qwen3_moe":
                return _qwen3_moe(config)
            case "gpt_oss":
                return _gpt_oss(config)
            case _:
                return 0, 0
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError):
        return 0, 0


def _outside(config: Mapping[str, Any]) -> int:
    """Embedding, head and last norm."""
    matrices = 1 if config.get("tie_word_embeddings") else 2
    return matrices * int(config["vocab_size"]) * int(config["hidden_size"]) + int(config["hidden_size"])


def _attention(config: Mapping[str, Any]) -> int:
    """One layer's attention with its biases, sinks and norms of heads, and the two norms of the layer."""
    kind, hidden, heads = config["model_type"], int(config["hidden_size"]), int(config["num_attention_heads"])
    groups = int(config.get("num_key_value_heads") or heads)
    usual = {"qwen3": 128, "gpt_oss": 64}.get(kind) or hidden // heads
    width = int(config.get("head_dim") or usual)
    queries, keys = heads * width, groups * width
    count = 2 * hidden * (queries + keys) + 2 * hidden
    if kind == "qwen2":
        count += queries + 2 * keys
    elif kind != "mistral" and config.get("attention_bias", kind == "gpt_oss"):
        count += queries + 2 * keys + hidden
    if kind in {"qwen3", "qwen3_moe"}:
        count += 2 * width
    if kind == "gpt_oss":
        count += heads
    return count


def _dense_feed(config: Mapping[str, Any]) -> int:
    hidden, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    biases = 2 * inner + hidden if config["model_type"] == "llama" and config.get("mlp_bias") else 0
    return 3 * hidden * inner + biases


def _qwen3_moe(config: Mapping[str, Any]) -> tuple[int, int]:
    layers, hidden = int(config["num_hidden_layers"]), int(config["hidden_size"])
    experts, step = int(config["num_experts"]), int(config.get("decoder_sparse_step", 1))
    dense = set(config.get("mlp_only_layers") or ())
    if layers > 100_000:
        return 0, 0
    mixed = sum(number not in dense and experts > 0 and (number + 1) % step == 0 for number in range(layers))
    of_experts = mixed * experts * 3 * hidden * int(config["moe_intermediate_size"])
    feeds = of_experts + mixed * experts * hidden + (layers - mixed) * _dense_feed(config)
    return _outside(config) + layers * _attention(config) + feeds, of_experts


def _gpt_oss(config: Mapping[str, Any]) -> tuple[int, int]:
    layers, hidden, inner = (int(config[key]) for key in ("num_hidden_layers", "hidden_size", "intermediate_size"))
    experts = int(config["num_local_experts"])
    of_experts = layers * experts * (3 * hidden * inner + 2 * inner + hidden)
    routers = layers * experts * (hidden + 1)
    return _outside(config) + layers * _attention(config) + routers + of_experts, of_experts
