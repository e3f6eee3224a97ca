"""One model over several devices: each holds its part of every matrix, as the library's own plan says.

The plan (``tp_plan`` of transformers) names matrices that are cut by outputs (``colwise``) and by inputs (``rowwise``):
what comes out of the latter on each device are summands. Every device is driven by a process of its own, which makes the
same calls in the same order.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from hwdash.core.errors import EngineError

_BY_OUTPUTS = frozenset({"colwise", "colwise_gather_output", "colwise_rep"})
_BY_INPUTS = "rowwise"
_CUT = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""What has to be cut for our forward pass to compute with the parts; the plan must say how of each."""
_MEETING = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Group:
    """The processes that share a model: ``ranks`` of them, of which this is number ``rank``."""

    rank: int
    ranks: int

    def add(self, rows: torch.Tensor) -> torch.Tensor:
        """The sum of everybody's *rows*."""
        distributed.all_reduce(rows)
        return rows

    def join(self, columns: torch.Tensor) -> torch.Tensor:
        """Everybody's *columns* (``[T, n]``) beside each other: ``[T, ranks * n]``."""
        parts = [torch.empty_like(columns) for _ in range(self.ranks)]
        distributed.all_gather(parts, columns.contiguous())
        return torch.cat(parts, dim=-1)


def meet(path: str, rank: int, ranks: int, device: torch.device) -> Group:
    """Wait at the file *path* until all *ranks* processes are there."""
    kind = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        kind = "nccl"
        # Its monitor would look into the file at every turn, which is gone when all have met.
        os.environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "0")
    distributed.init_process_group(kind, init_method=f"file://{path}", rank=rank, world_size=ranks, timeout=_MEETING)
    return Group(rank, ranks)


class Plan:
    """How a transformers model is cut for a *group*, by its own ``tp_plan``. Raises `EngineError` where it has none."""

    def __init__(self, model: Any, group: Group) -> None:
        self._styles = {name: str(style) for name, style in (model.tp_plan or {}).items()}
        self._group = group
        self._name = str(model.config.model_type)
        self._check(model.config)

    def _check(self, config: Any) -> None:
        planned = {name.rpartition(".")[2] for name, style in self._styles.items() if _is_cut(style)}
        if missing := [name for name in _CUT if name not in planned]:
            raise EngineError(
                f"{self._name} cannot be spread over several devices: its plan says nothing of {missing[0]}; "
                "choose one device"
            )
        ranks = self._group.ranks
        counts = {"heads": config.num_attention_heads, "key-value heads": config.num_key_value_heads}
        for what, count in {**counts, "numbers inside its feeds": config.intermediate_size}.items():
            if count % ranks:
                raise EngineError(f"{self._name} cannot be spread over {ranks} devices: it has {count} {what}")

    def part(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """This device's part of the parameter *name* of the model, a copy; the whole *tensor* where it is not cut."""
        module, _, kind = name.rpartition(".")
        style = self._styles.get(re.sub(r"\.\d+\.", ".*.", module), "")
        ranks, rank = self._group.ranks, self._group.rank
        if style in _BY_OUTPUTS and tensor.shape[0] % ranks == 0:
            return tensor.chunk(ranks, dim=0)[rank].clone()
        if style == _BY_INPUTS and kind == "weight":
            return tensor.chunk(ranks, dim=1)[rank].clone()
        if style == _BY_INPUTS and rank > 0:
            return torch.zeros_like(tensor)  # a bias is added once
        return tensor


def cut(network: Any, plan: Plan, device: torch.device) -> None:
    """Leave *network* this device's part of each parameter, on *device*, with all its buffers."""
    made: dict[int, torch.nn.Parameter] = {}
    for path, module in network.named_modules():
        for key, whole in list(module.named_parameters(recurse=False)):
            if id(whole) not in made:
                part = plan.part(f"{path}.{key}", whole.detach())
                made[id(whole)] = torch.nn.Parameter(part.to(device), requires_grad=False)
            setattr(module, key, made[id(whole)])
        for key, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, key, buffer.to(device))


def _is_cut(style: str) -> bool:
    return style in _BY_OUTPUTS or style == _BY_INPUTS
