"""JSON schemas of what the API takes and gives, made from the very classes that the code reads and writes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import msgspec
from pydantic import BaseModel

from hwdash.core.bench import BenchHistory
from hwdash.core.device import DeviceKind
from hwdash.core.history import EventHistory, LatencyHistory, MetricHistory
from hwdash.core.inference import InferenceRecord
from hwdash.core.metric import METRICS
from hwdash.core.model import ModelInfo
from hwdash.core.precision import ITEM_BYTES
from hwdash.core.probe import ProbeResult, UptimeHistory
from hwdash.core.ranking import Ranking
from hwdash.core.replay import ReplayState
from hwdash.core.snapshot import DeviceStatus
from hwdash.core.soak import SoakHistory
from hwdash.core.status import DaemonStatus
from hwdash.core.throttle import ThrottleClass, ThrottleReason
from hwdash.core.wire import Json
from hwdash.daemon.body import PromptBody, PullBody, ReplayBody
from hwdash.daemon.openai_answer import ChatCompletion, Completion, ModelCard, ModelList
from hwdash.daemon.openai_body import ChatBody, CompletionBody
from hwdash.daemon.routes_bench import BenchBody
from hwdash.daemon.routes_probe import ProbeBody
from hwdash.daemon.routes_soak import SoakBody

_BODIES: Sequence[type[BaseModel]] = (
    ChatBody,
    CompletionBody,
    PromptBody,
    PullBody,
    ReplayBody,
    ProbeBody,
    SoakBody,
    BenchBody,
)
_VALUES: Sequence[type[Any]] = (
    BenchHistory,
    SoakHistory,
    *(DaemonStatus, LatencyHistory, MetricHistory, EventHistory, ModelInfo, ReplayState, Ranking),
    *(ProbeResult, UptimeHistory),
    *(InferenceRecord, ChatCompletion, Completion, ModelCard, ModelList, DeviceStatus),
)
_PLACE = "#/components/schemas/"
_WORD = rf"({'|'.join(ITEM_BYTES)}|cc[0-9]{{1,2}}\.[0-9])"
_KIND = f"({'|'.join(kind.value for kind in DeviceKind)})"

DURATION: Json = {
    "type": "string",
    "pattern": r"^(0\.[1-9][0-9]{0,8}s?|[1-9][0-9]{0,7}(\.[0-9]{1,9})?s?|[1-9][0-9]{0,2}(\.[0-9]{1,9})?[mhd])$",
    "examples": ["90s", "5m", "1h", "7d"],
}
"""A stretch of time in the forms that everyone uses; `hwdash.core.duration` takes a few more."""
SIZE: Json = {
    "type": "string",
    "pattern": r"^([1-9][0-9]{0,17}(\.[0-9]{1,20})?|[1-9][0-9]{0,2}(\.[0-9]{1,3})?([kMGT]i?)?B?)$",
    "examples": ["40GiB", "512MiB", "80GB"],
}
"""A size of memory in the forms that everyone uses; `hwdash.core.size` takes a few more."""
FEATURES: Json = {"type": "string", "pattern": f"^({_WORD}(,{_WORD}){{0,9}})?$", "examples": ["bf16,cc8.9"]}
KINDS: Json = {"type": "string", "pattern": f"^({_KIND}(,{_KIND}){{0,9}})?$", "examples": ["gpu,npu"]}
METRIC: Json = {"type": "string", "enum": sorted(METRICS)}


def ref(name: str) -> Json:
    """The schema called *name* among those of `schemas`."""
    return {"$ref": _PLACE + name}


def schemas() -> Json:
    """All schemas by name."""
    found: Json = {"Error": _error()}
    for body in _BODIES:
        schema = body.model_json_schema(ref_template=_PLACE + "{model}")
        found |= schema.pop("$defs", {})
        found[body.__name__] = schema
    _, values = msgspec.json.schema_components(_VALUES, schema_hook=_anything, ref_template=_PLACE + "{name}")
    for value in values.values():
        _may_be_missing(value)
    found |= copy.deepcopy(values)
    _describe_requirements(found)
    found["Device"] = _device(found)
    for name in ("ChatCompletion", "Completion"):
        found[name]["properties"]["hwdash"] = ref("InferenceRecord")
    found["PromptBody"]["oneOf"] = [
        {"required": [given], "properties": {given: {"not": {"type": "null"}}, other: {"type": "null"}}}
        for given, other in (("prompt", "messages"), ("messages", "prompt"))
    ]
    found["PromptBody"]["properties"]["prompt"]["anyOf"][0]["pattern"] = r"\S"
    return found


def _anything(_: type[Any]) -> Json:
    return {"description": "Any value."}


def _may_be_missing(schema: Json) -> None:
    """What can be null is left out of an answer while it is unknown."""
    properties = schema.get("properties", {})
    schema["required"] = [name for name in schema.get("required", []) if not _is_nullable(properties[name])]


def _is_nullable(schema: Json) -> bool:
    return schema.get("type") == "null" or {"type": "null"} in schema.get("anyOf", [])


def _error() -> Json:
    kinds = ["invalid_request_error", "rate_limit_error", "server_error"]
    told = {
        "type": "object",
        "properties": {
            "message": {"type": "string", "description": "One line: what is wrong, and what to do."},
            "type": {"enum": kinds},
            "code": {"type": "string"},
            "param": {"type": ["string", "null"], "description": "The field at fault."},
        },
        "required": ["message", "type", "code", "param"],
    }
    return {"type": "object", "properties": {"error": told}, "required": ["error"]}


def _describe_requirements(found: Json) -> None:
    """The grammar of the options that are texts, which is checked where they are read (`hwdash.core.requirement`)."""
    for name in ("HwdashBody", "RequirementBody"):
        options = found[name]["properties"]
        options["min_memory"]["anyOf"][1] = SIZE
        for option, word, texts in (("require", _WORD, FEATURES), ("kind", _KIND, KINDS)):
            options[option]["anyOf"][0]["items"] = {"type": "string", "pattern": f"^{word}$"}
            options[option]["anyOf"][1] = texts


_INNER = frozenset({"visible_as", "members"})
"""Facts of a device that are the daemon's own business."""


def _device(found: Json) -> Json:
    """The contract's flat device object (`hwdash.core.wire.device_to_wire`)."""
    status, facts = found.pop("DeviceStatus")["properties"], found["Device"]
    properties = {name: schema for name, schema in facts["properties"].items() if name not in _INNER}
    for name in ("pools", "health", "sampled_at", "age_s", "last_request", "processes", "faults", "clock_is_set"):
        properties[name] = status[name]
    properties["metrics"] = {"type": "object", "additionalProperties": {"type": "number"}}
    properties["absent"] = {"type": "object", "additionalProperties": ref("Absent")}
    found.pop("ThrottleActivity", None)
    throttle = {
        "type": "object",
        "properties": {
            "reason": {"enum": [reason.value for reason in ThrottleReason]},
            "class": {"enum": [kind.value for kind in ThrottleClass]},
            "active": {"type": "boolean"},
            "duty": {"type": "number"},
            "detail": {"type": "string"},
            "seconds": {"type": "number"},
        },
        "required": ["reason", "class", "active"],
    }
    properties["throttle"] = {"type": "array", "items": throttle}
    always = ["pools", "metrics", "absent", "throttle", "health"]
    return {"type": "object", "properties": properties, "required": [*facts["required"], *always]}
