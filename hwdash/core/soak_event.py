"""The events of a soak as JSON, one a line, each tagged with its ``type``."""

from __future__ import annotations

from hwdash.core.inference import StageEvent
from hwdash.core.soak import SoakEvent, SoakFinished, SoakSample, SoakStarted
from hwdash.core.wire import Json, from_wire, to_wire

_EVENTS: dict[str, type[StageEvent | SoakStarted | SoakSample | SoakFinished]] = {
    "stage": StageEvent,
    "started": SoakStarted,
    "sample": SoakSample,
    "finished": SoakFinished,
}


def soak_event_to_wire(event: SoakEvent) -> Json:
    """*event*, tagged with its ``type``."""
    name = next(name for name, kind in _EVENTS.items() if isinstance(event, kind))
    data: Json = to_wire(event)
    return {"type": name} | data


def soak_event_from_wire(data: Json) -> SoakEvent:
    """The event that `soak_event_to_wire` turned into *data*. Raises ValueError or KeyError for anything else."""
    event: SoakEvent = from_wire(data, _EVENTS[data["type"]])
    return event
