"""The one JSON form of the vocabulary: what commands print, the API answers and recordings hold.

`to_wire` gives plain dictionaries whose names and nesting are the outside contract's; `from_wire` reads them back.
None is not written: what is unknown is not there. (The few keys that stay with the value null, for scripts that index
them, are named where that happens.) Times are RFC 3339 in UTC.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from hwdash.core.device import Device, MemoryPool
from hwdash.core.errors import HwdashError
from hwdash.core.inference import FinishedEvent, InferenceRecord, PromptEvent, PromptRequest, StageEvent, TokenEvent
from hwdash.core.reading import Absent
from hwdash.core.requirement import requirements_to_wire
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.core.status import DaemonStatus
from hwdash.core.throttle import ThrottleActivity

T = TypeVar("T")
Json = dict[str, Any]

_EVENTS: dict[str, type[StageEvent | TokenEvent | FinishedEvent]] = {
    "stage": StageEvent,
    "token": TokenEvent,
    "finished": FinishedEvent,
}


def dumps(value: object) -> bytes:
    """*value* as one line of JSON; NaN and infinity become null."""
    return msgspec.json.encode(value)


def loads(data: bytes | str) -> Any:
    """The value of a JSON text. Raises ValueError for anything else."""
    return msgspec.json.decode(data)


def to_wire(value: object) -> Any:
    """Any value of the vocabulary as JSON-ready data. Devices take the nesting that the contract fixes."""
    if isinstance(value, Snapshot):
        return _snapshot_to_wire(value)
    if isinstance(value, DeviceStatus):
        return device_to_wire(value)
    if isinstance(value, DaemonStatus):
        # Also while it is null: whoever indexes it wants to know whether there is a TCP address.
        return _without_none(msgspec.to_builtins(value)) | {"listen": value.listen}
    return _without_none(msgspec.to_builtins(value))


def from_wire(data: Any, kind: type[T]) -> T:
    """The *kind* that `to_wire` turned into *data*; unknown keys are passed over.

    Raises ValueError (`msgspec.ValidationError`) that names the field when the data does not fit.
    """
    if kind is Snapshot:
        data = data | {"devices": [_device_for_decoding(device) for device in data["devices"]]}
    elif kind is DeviceStatus:
        data = _device_for_decoding(data)
    return msgspec.convert(data, kind)


def event_to_wire(event: PromptEvent) -> Json:
    """A prompt event, tagged with its ``type``."""
    name = next(name for name, kind in _EVENTS.items() if isinstance(event, kind))
    data: Json = _without_none(msgspec.to_builtins(event))
    return {"type": name} | data


def event_from_wire(data: Json) -> PromptEvent:
    """The prompt event that `event_to_wire` turned into *data*."""
    event: PromptEvent = msgspec.convert(data, _EVENTS[data["type"]])
    return event


def prompt_to_wire(request: PromptRequest) -> Json:
    """A prompt as ``POST /api/v1/prompt`` takes it; requirements go under the names of the command's options."""
    data: Json = _without_none(msgspec.to_builtins(request))
    options = requirements_to_wire(request.requirements)
    options.pop("model", None)
    data.pop("origin", None)
    return data | {"requirements": options}


def error_to_wire(error: HwdashError) -> Json:
    """An error in the shape of OpenAI's API: ``{"error": {"message", "type", "code", "param"}}``."""
    return {
        "error": {
            "message": error.message,
            "type": "invalid_request_error" if error.http_status < 500 else "server_error",
            "code": error.code,
            "param": error.param,
        }
    }


def answer_to_wire(record: InferenceRecord, text: str) -> Json:
    """A finished prompt as the command prints it: the record with the text, the contract's keys first.

    The contract's keys are all there, with the value null where there was nothing to measure, for scripts that index
    them.
    """
    data: Json = to_wire(record)
    for part in ("route", "tokens", "timing", "energy", "conditions"):
        data[part] = msgspec.to_builtins(getattr(record, part))
    return {"text": text, "model": data.pop("model"), "device": data.pop("device")} | data


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return value


def _throttle_to_wire(activity: ThrottleActivity) -> Json:
    data = {"reason": activity.reason, "class": activity.reason.category, "active": activity.active}
    if activity.duty is not None:
        data["duty"] = round(activity.duty, 4)
    if activity.detail is not None:
        data["detail"] = activity.detail
    if activity.seconds is not None:
        data["seconds"] = activity.seconds
    return data


@lru_cache(maxsize=1024)
def _facts_to_wire(device: Device) -> Json:
    """The part of the device object that stays the same from tick to tick. Not to be changed by the caller."""
    facts: Json = _without_none(msgspec.to_builtins(device))
    facts.pop("visible_as", None)
    facts.pop("members", None)
    if not device.capabilities.tried:
        del facts["capabilities"]["tried"]
    if not device.spans_pools:
        facts.pop("spans_pools", None)
    return facts


def device_to_wire(status: DeviceStatus) -> Json:
    """The contract's device object."""
    data = dict(_facts_to_wire(status.device))
    data["pools"] = [_pool_to_wire(pool) for pool in status.pools]
    data["metrics"] = {name: value for name, value in status.readings.items() if not isinstance(value, Absent)}
    data["absent"] = {name: value for name, value in status.readings.items() if isinstance(value, Absent)}
    data["throttle"] = [_throttle_to_wire(activity) for activity in status.throttle]
    data["health"] = msgspec.to_builtins(status.health)
    if not status.health.suspected:
        del data["health"]["suspected"]
    if not status.health.suspicions:
        del data["health"]["suspicions"]
    if status.sampled_at is not None:
        data["sampled_at"] = msgspec.to_builtins(status.sampled_at)
    if status.age_s is not None:
        data["age_s"] = round(status.age_s, 3)
    if status.last_request is not None:
        data["last_request"] = _without_none(msgspec.to_builtins(status.last_request))
    if isinstance(status.processes, Absent):
        data["absent"]["processes"] = status.processes
    elif status.processes is not None:
        data["processes"] = _without_none(msgspec.to_builtins(status.processes))
    if status.faults:
        data["faults"] = msgspec.to_builtins(status.faults)
    if status.clock_is_set:
        data["clock_is_set"] = True
    return data


def _pool_to_wire(pool: MemoryPool) -> Json:
    data: Json = {
        "id": pool.id,
        "total_bytes": pool.total_bytes,
        "used_bytes": pool.used_bytes,
        "free_bytes": pool.free_bytes,
    }
    if pool.shared:
        data["shared"] = True
    if pool.numa_node is not None:
        data["numa_node"] = pool.numa_node
    return data


def _snapshot_to_wire(snapshot: Snapshot) -> Json:
    data: Json = _without_none(
        {
            "sequence": snapshot.sequence,
            "taken_at": msgspec.to_builtins(snapshot.taken_at),
            "interval_s": snapshot.interval_s,
            "sources": msgspec.to_builtins(snapshot.sources),
            "ranking": msgspec.to_builtins(snapshot.ranking),
            "events": msgspec.to_builtins(snapshot.events),
            "replay": msgspec.to_builtins(snapshot.replay),
        }
    )
    return data | {"devices": [device_to_wire(status) for status in snapshot.devices]}


_DEVICE_FIELDS = tuple(field.name for field in dataclasses.fields(Device) if field.name != "members")


def _device_for_decoding(data: Json) -> Json:
    """The contract's flat device object in the nesting of `DeviceStatus`."""
    absent = dict(data.get("absent", {}))
    processes = absent.pop("processes", data.get("processes"))
    return {
        "device": {name: data[name] for name in _DEVICE_FIELDS if name in data},
        "readings": data.get("metrics", {}) | absent,
        "pools": data.get("pools", []),
        "throttle": data.get("throttle", []),
        "health": data["health"],
        "sampled_at": data.get("sampled_at"),
        "age_s": data.get("age_s"),
        "last_request": data.get("last_request"),
        "processes": processes,
        "faults": data.get("faults", []),
        "clock_is_set": data.get("clock_is_set", False),
    }
