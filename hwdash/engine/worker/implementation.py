"""Which of transformers' implementations of attention and of experts a network computes with, and why."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch

from hwdash.core.text import sanitise_line
from hwdash.engine.worker.failure import is_fault_of_device
from hwdash.engine.worker.kernel import tells_of_missing_kernels
from hwdash.engine.worker.memory import is_out_of_memory

_FLASH = (("flash_attention_3", "flash_attn_interface"), ("flash_attention_2", "flash_attn"))
_ATTENTION = "_attn_implementation"
_HALF = (torch.float16, torch.bfloat16)
_log = logging.getLogger(__name__)


def choose_implementations(
    network: Any, device: torch.device, dtype: torch.dtype, run: Callable[[], None]
) -> tuple[str, ...]:
    """Set the fastest implementations with which *run*, one pass of *network*, works; and a sentence on each.

    Raises what *run* raises with the plainest of them, and at once for want of memory and failures of the device.
    """
    said = [_attention(network, device, dtype, run)]
    if _has_experts(network):
        said.append(_experts(network, device, run))
    return tuple(said)


def _attention(network: Any, device: torch.device, dtype: torch.dtype, run: Callable[[], None]) -> str:
    chosen = str(getattr(network.config, _ATTENTION))
    why = "the fused attention of PyTorch" if chosen == "sdpa" else f"{type(network).__name__} takes no fused one"
    flash = list(_flash(network, device, dtype))
    if not flash and chosen == "sdpa" and device.type == "cuda":
        why += "; flash-attn is not installed or does not fit"
    for name in flash:
        if problem := _try(network.set_attn_implementation, name, chosen, device, run):
            why += f"; {name} does not run here: {problem}"
        else:
            return f"attention: {name}, which is installed and takes grouped heads as they are"
    run()
    return f"attention: {chosen}, {why}"


def _flash(network: Any, device: torch.device, dtype: torch.dtype) -> Iterator[str]:
    """Those of flash-attention that are installed and that the network takes; transformers would fetch others."""
    if device.type != "cuda" or dtype not in _HALF or not getattr(network, "_supports_flash_attn", False):
        return
    if getattr(network, "_compatible_flash_implementations", None):  # it needs special ones, which are not packages
        return
    for name, module in _FLASH:
        if importlib.util.find_spec(module) is not None:
            yield name


def _experts(network: Any, device: torch.device, run: Callable[[], None]) -> str:
    """Grouped products on accelerators, one expert after another on a CPU.

    A CPU was twice as fast one by one (gpt-oss layers in bf16, AMD EPYC). ``batched_mm`` copies the matrices of each
    chosen expert for each token: hundreds of gigabytes for a chunk of a prompt.
    """
    if device.type == "cpu":
        network.set_experts_implementation("eager")
        run()
        return "experts: one after another (eager), which is faster on a CPU than grouped products"
    if problem := _try(network.set_experts_implementation, "grouped_mm", "eager", device, run):
        run()
        return f"experts: one after another (eager), since grouped products do not run here: {problem}"
    return "experts: grouped_mm, all chosen experts in one product"


def _has_experts(network: Any) -> bool:
    """Whether the implementation can be chosen: a mixture of experts in transformers' own form."""
    return getattr(network.config, "_experts_implementation", None) is not None and any(
        hasattr(module, "gate_up_proj") and hasattr(module, "num_experts") for module in network.modules()
    )


def _try(
    choose: Callable[[str], object], name: str, otherwise: str, device: torch.device, run: Callable[[], None]
) -> str:
    """Run with *name*; where that fails go back to *otherwise* and tell the problem in words."""
    try:
        choose(name)
        run()
    except Exception as error:
        if is_out_of_memory(error) or tells_of_missing_kernels(error) or is_fault_of_device(error, device):
            raise
        _log.warning("%s does not run: %s", name, sanitise_line(str(error), 300))
        choose(otherwise)
        return sanitise_line(str(error), 100) or type(error).__name__
    return ""
