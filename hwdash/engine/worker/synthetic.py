"""Networks in a true shape with drawn weights, made on the device itself: nothing is read and nothing is there twice."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from hwdash.core.errors import ModelError
from hwdash.core.text import sanitise_line
from hwdash.engine.synthetic import loaded_config

_SPREAD = 0.02
"""Standard deviation of weights where a configuration names none: transformers' own default."""
_BLOCK = 4_194_301
"""Numbers drawn for a CPU and used again and again, since drawing 8 billion takes a minute there. A prime: rows of a
matrix never begin at the same place of it."""
_REPORT_S = 0.2
_MARK = "_is_hf_initialized"
"""With it transformers marks what it leaves alone when it gives a network its initial numbers."""


def empty_network(path: Path, dtype: torch.dtype) -> Any:
    """The network that the configuration in the file *path* describes, without weights: it takes no memory.

    Raises `ModelError` for a configuration of which transformers makes no causal language model.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = loaded_config(path)
    try:
        config = AutoConfig.for_model(**settings)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False).eval()
    except Exception as error:
        problem = sanitise_line(str(error), 200) or type(error).__name__
        raise ModelError(f"no language model can be made of {path}: {problem}") from error


def count_parameters(network: Any) -> int:
    """How many numbers the parameters of *network* are, shared ones once."""
    return sum(parameter.numel() for parameter in network.parameters())


def draw_weights(
    network: Any,
    name: str,
    device: torch.device,
    report: Callable[[float], None],
    part: Callable[[str, torch.Tensor], torch.Tensor] = lambda name, weight: weight,
) -> None:
    """Give *network*, made by `empty_network`, its weights on *device*: the same each time for the same *name*.

    Matrices are normally distributed with the configuration's spread, weights of norms 1, biases 0. Other buffers get
    what transformers computes for them. *report* is told how far it is, 0 to 1. Of each parameter only the *part* is kept that is made of its name and itself.
    """
    total, done, told = max(1, count_parameters(network)), 0, time.monotonic()
    spread = getattr(network.config.get_text_config(decoder=True), "initializer_range", None) or _SPREAD
    torch.manual_seed(zlib.crc32(name.encode()))
    fill = _filler(device, float(spread))
    made: dict[int, torch.nn.Parameter] = {}
    with torch.no_grad():
        for path, module, key, empty in _tensors(network):
            if id(empty) not in made:
                weight = torch.empty_like(empty, device=device)
                if key.endswith("bias"):
                    weight.zero_()
                elif "norm" in type(module).__name__.lower():
                    weight.fill_(1.0)
                else:
                    fill(weight)
                made[id(empty)] = parameter = torch.nn.Parameter(part(f"{path}.{key}", weight), requires_grad=False)
                setattr(parameter, _MARK, True)
                done += weight.numel()
                if time.monotonic() - told >= _REPORT_S:
                    told = time.monotonic()
                    report(done / total)
            setattr(module, key, made[id(empty)])
        _compute_buffers(network, device)


def _tensors(network: Any) -> Iterator[tuple[str, torch.nn.Module, str, torch.nn.Parameter]]:
    for path, module in network.named_modules():
        for key, parameter in list(module.named_parameters(recurse=False)):
            yield path, module, key, parameter


def _filler(device: torch.device, spread: float) -> Callable[[torch.Tensor], object]:
    if device.type != "cpu":
        return lambda weight: weight.normal_(0.0, spread)
    blocks: dict[torch.dtype, torch.Tensor] = {}
    numbers = torch.empty(_BLOCK).normal_(0.0, spread)
    start = 0

    def repeat(weight: torch.Tensor) -> None:
        nonlocal start
        block = blocks.setdefault(weight.dtype, numbers.to(weight.dtype))
        flat, at = weight.view(-1), 0
        while at < len(flat):
            piece = block[start : start + len(flat) - at]
            flat[at : at + len(piece)].copy_(piece)
            at, start = at + len(piece), (start + len(piece)) % _BLOCK

    return repeat


def _compute_buffers(network: Any, device: torch.device) -> None:
    for module in network.modules():
        setattr(module, _MARK, False)
        for key, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, key, torch.zeros_like(buffer, device=device))
    network.initialize_weights()
