"""The events of a bench as JSON, one a line, each tagged with its ``type``."""

from __future__ import annotations

from types import MappingProxyType

import msgspec

from hwdash.core.bench import BenchEvent, BenchFinished, BenchStep
from hwdash.core.inference import StageEvent
from hwdash.core.wire import Json, to_wire

_KINDS: MappingProxyType[str, type[StageEvent | BenchStep | BenchFinished]] = MappingProxyType(
    {"stage": StageEvent, "step": BenchStep, "finished": BenchFinished}
)


def bench_event_to_wire(event: BenchEvent) -> Json:
    """An event of a bench, tagged with its ``type``."""
    name = next(name for name, kind in _KINDS.items() if isinstance(event, kind))
    data: Json = to_wire(event)
    return {"type": name} | data


def bench_event_from_wire(data: Json) -> BenchEvent:
    """The event that `bench_event_to_wire` turned into *data*. Raises ValueError and LookupError for anything else."""
    event: BenchEvent = msgspec.convert(data, _KINDS[data["type"]])
    return event
