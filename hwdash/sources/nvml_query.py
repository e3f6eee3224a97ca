"""Questions to NVML about one device, each with a memory of what the driver does not know."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hwdash.core.reading import Absent, Reading
from hwdash.sources.nvml_session import (
    GPU_IS_LOST,
    INVALID_ARGUMENT,
    SESSION_OVER,
    UNKNOWN_TO_DRIVER,
    SessionLost,
    reason_of,
)
from hwdash.sources.source import DeviceLost

ALL_LINKS = 0xFFFFFFFF
"""The scope of a field that is to be the sum over all links (nvml.h, ``NVML_FI_DEV_NVLINK_*``)."""

_RECORD = struct.Struct("@IIqqiIQ")
"""``nvmlFieldValue_t`` of nvml.h: field, scope, time stamp, latency, type of the value, return code, value.

The union of values is taken as its 8 bytes; every processor with an NVIDIA driver is little-endian.
"""

_UNSIGNED_INT, _UNSIGNED_LONG_LONG = 1, 3
_BITS_OF_UNSIGNED_INT = 2**32 - 1
_FORMATS = tuple(struct.Struct(f"<{letter}") for letter in "dIQQqiH")
"""The value by ``nvmlValueType_t``, in the first bytes of the union."""


def judge(code: int) -> Absent:
    """Why a metric is absent whose call ended with *code*.

    Raises `hwdash.sources.source.DeviceLost` and `hwdash.sources.nvml_session.SessionLost` for the codes that say
    more than that about one metric.
    """
    if code == GPU_IS_LOST:
        raise DeviceLost(
            "the NVIDIA driver says that the GPU is lost (off the bus): see dmesg for Xid messages; it needs a reset"
        )
    if code in SESSION_OVER:
        raise SessionLost(reason_of(code))
    return reason_of(code)


class Query:
    """One question with the ways to ask it, best first. A way that driver or device does not know is never used again.

    *names* are functions of *library*, all called with *arguments*. *unknown* are the return codes that mean
    "does not know".
    """

    def __init__(
        self,
        library: Any,
        names: Sequence[str],
        arguments: Sequence[Any],
        unknown: frozenset[int] = UNKNOWN_TO_DRIVER,
    ) -> None:
        self._error: type[Exception] = library.NVMLError
        self._ways: list[Callable[..., Any]] = [way for name in names if (way := getattr(library, name, None))]
        self._arguments = tuple(arguments)
        self._unknown = unknown

    def ask(self, *more: Any) -> Any | Absent:
        """What the function answers, or why there is no answer; *more* are further arguments. Raises as `judge` does."""
        while self._ways:
            try:
                return self._ways[0](*self._arguments, *more)
            except self._error as error:
                code: int = error.value  # type: ignore[attr-defined]
                if code not in self._unknown:
                    return judge(code)
                del self._ways[0]
        return Absent.NOT_SUPPORTED

    def give_up(self) -> None:
        """Never again use the way that answered last: its answer was nonsense."""
        del self._ways[:1]


class FieldBatch:
    """Many field values of one device in one call. A field that driver or device does not know is asked once.

    *scopes* holds the scope of those fields that have one (a link, `ALL_LINKS`). The call goes past pynvml's wrapper,
    which fills a new array one attribute at a time and takes longer for it than all other calls of a read together.
    """

    def __init__(
        self, library: Any, handle: Any, ids: Sequence[int], scopes: Mapping[int, int] = MappingProxyType({})
    ) -> None:
        self._library = library
        self._handle = handle
        self._function: Any = getattr(library.nvmlLib, "nvmlDeviceGetFieldValues", None)
        self._fields = {id_: (id_, scopes.get(id_, 0)) for id_ in ids}
        self._plans: dict[frozenset[int], tuple[tuple[int, ...], Any]] = {}
        self._values: dict[int, Reading] = {}

    def read(self, without: frozenset[int] = frozenset()) -> None:
        """Ask for all fields that are worth asking for, but those of *without*: they keep their last value.

        Raises as `judge` does.
        """
        plan = self._plans.get(without)
        if plan is None:
            plan = self._plans[without] = self._plan(without)
        ids, array = plan
        if not ids or self._function is None:
            return
        code = self._function(self._handle, len(ids), array)
        values = self._values
        if code != 0:
            if code in UNKNOWN_TO_DRIVER:
                self._function = None
            values.update(dict.fromkeys(ids, judge(code)))
            return
        for id_, (_, _, _, _, kind, code, raw) in zip(ids, _RECORD.iter_unpack(array), strict=True):
            if code == 0:
                if kind == _UNSIGNED_LONG_LONG:
                    values[id_] = float(raw)
                elif kind == _UNSIGNED_INT:
                    values[id_] = float(raw & _BITS_OF_UNSIGNED_INT)
                else:
                    values[id_] = _value_of(kind, raw)
            elif code in UNKNOWN_TO_DRIVER or code == INVALID_ARGUMENT:
                self.drop(id_)
            else:
                values[id_] = judge(code)

    def _plan(self, without: frozenset[int]) -> tuple[tuple[int, ...], Any]:
        """The fields to ask for, and the array that asks for them, to be used again and again."""
        fields = [field for id_, field in self._fields.items() if id_ not in without]
        array = (self._library.c_nvmlFieldValue_t * len(fields))()
        for item, field in zip(array, fields, strict=True):
            item.fieldId, item.scopeId = field
        return tuple(id_ for id_, _ in fields), array

    def drop(self, id_: int) -> None:
        """Do not ask for field *id_* again, and forget it."""
        self.keep(id_)
        self._values.pop(id_, None)

    def keep(self, id_: int) -> None:
        """Do not ask for field *id_* again: its value is for good."""
        if self._fields.pop(id_, None) is not None:
            self._plans.clear()

    def get(self, id_: int) -> Reading:
        """The newest value of field *id_* in the driver's unit, or why there is none."""
        return self._values.get(id_, Absent.NOT_SUPPORTED)


def _value_of(kind: int, raw: int) -> Reading:
    if not 0 <= kind < len(_FORMATS):
        return Absent.BAD_VALUE
    value = float(_FORMATS[kind].unpack_from(raw.to_bytes(8, "little"))[0])
    return value if math.isfinite(value) else Absent.BAD_VALUE


def within(value: Any, low: float, high: float, scale: float = 1.0) -> Reading:
    """*value* times *scale*; absent when it is, or when it lies outside what hardware can mean."""
    if isinstance(value, Absent):
        return value
    return value * scale if low <= value <= high else Absent.BAD_VALUE
