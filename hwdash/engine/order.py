"""What a worker is told to load."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from hwdash.core.config import EngineConfig
from hwdash.core.device import Device
from hwdash.engine.message import Load
from hwdash.engine.models import ModelStore
from hwdash.engine.placement import placement_of


@dataclass(frozen=True, slots=True)
class Order:
    """The first message to a worker, and the environment in which its device is the only one there is."""

    load: Load
    environment: Mapping[str, str]


async def order_of(model: str, device: Device, models: ModelStore, config: EngineConfig) -> Order:
    """What to load for *model* on *device*, in the precision that is chosen for it.

    Raises `UnknownModel`, `ModelError`, and `EngineError` for a device that no worker can drive.
    """
    directory = await asyncio.to_thread(models.resolve, model)
    placement = placement_of(device, quantize=config.quantize)
    load = Load(
        str(directory),
        model,
        placement.torch_device,
        placement.dtype,
        threads=placement.threads,
        module=placement.module,
        smaller=placement.smaller,
        architecture=placement.architecture,
        synthetic=models.is_synthetic(model),
        slots=config.max_concurrent,
        compile=config.compile,
        quantize=placement.quantize,
        ranks=placement.ranks,
    )
    return Order(load, placement.environment)
