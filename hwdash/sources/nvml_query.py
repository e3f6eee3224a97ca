"""Questions to NVML about one device, each with a memory of what the driver does not know."""

from __future__ import annotations

import math
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

_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""The member of ``nvmlValue_t`` by ``nvmlValueType_t``."""


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

    *scopes* holds the scope of those fields that have one (a link, `ALL_LINKS`).
    """

    def __init__(
        self, library: Any, handle: Any, ids: Sequence[int], scopes: Mapping[int, int] = MappingProxyType({})
    ) -> None:
        self._query = Query(library, ("nvmlDeviceGetFieldValues",), (handle,))
        self._fields = {id_: (id_, scopes.get(id_, 0)) for id_ in ids}
        self._plans: dict[frozenset[int], list[tuple[int, int]]] = {}
        self._values: dict[int, Reading] = {}

    def read(self, without: frozenset[int] = frozenset()) -> None:
        """Ask for all fields that are worth asking for, but those of *without*: they keep their last value.

        Raises as `judge` does.
        """
        plan = self._plans.get(without)
        if plan is None:
            plan = self._plans[without] = [field for id_, field in self._fields.items() if id_ not in without]
        if not plan:
            return
        answer = self._query.ask(plan)
        values = self._values
        if isinstance(answer, Absent):
            values.update((id_, answer) for id_, _ in plan)
            return
        for (id_, _), item in zip(tuple(plan), answer, strict=True):
            code = item.nvmlReturn
            if code == 0:
                values[id_] = _value_of(item)
            elif code in UNKNOWN_TO_DRIVER or code == INVALID_ARGUMENT:
                self.drop(id_)
            else:
                values[id_] = judge(code)

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


def _value_of(item: Any) -> Reading:
    kind = item.valueType
    if not 0 <= kind < len(_MEMBERS):
        return Absent.BAD_VALUE
    value = float(getattr(item.value, _MEMBERS[kind]))
    return value if math.isfinite(value) else Absent.BAD_VALUE


def within(value: Any, low: float, high: float, scale: float = 1.0) -> Reading:
    """*value* times *scale*; absent when it is, or when it lies outside what hardware can mean."""
    if isinstance(value, Absent):
        return value
    return value * scale if low <= value <= high else Absent.BAD_VALUE
