"""What the performance counters of an NVIDIA GPU say (GPM: Hopper and later), as shares and rates between two reads."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hwdash.core.reading import Absent, Reading
from hwdash.sources.nvml_query import Query
from hwdash.sources.nvml_session import INVALID_ARGUMENT, UNKNOWN_TO_DRIVER, SessionLost, reason_of
from hwdash.sources.pace import Pace
from hwdash.sources.source import DeviceLost

SHARES = MappingProxyType({"sm_utilization": 2, "tensor_utilization": 5, "memory_bandwidth_utilization": 10})
"""Metric ids of nvml.h (``NVML_GPM_METRIC_*``) in percent."""

INSTANCE_SHARES = MappingProxyType({"utilization": 1, **SHARES})
"""The same for a MIG instance, for which nothing else tells the utilisation."""

PCIE_RATES = MappingProxyType({"pcie_tx_bytes_per_s": 20, "pcie_rx_bytes_per_s": 21})
NVLINK_RATES = MappingProxyType({"nvlink_rx_bytes_per_s": 60, "nvlink_tx_bytes_per_s": 61})
"""Metric ids in MiB/s, over all links."""

_RATES = frozenset({*PCIE_RATES, *NVLINK_RATES})
_MIB = 2.0**20
_MOST_RATE = 1e13
_APART_S = 0.1
"""Two samples must be this far apart (nvml.h, ``nvmlGpmMetricsGet``)."""
_RETRY_S = 10.0
"""How long a driver that had no room for the samples is left alone."""


class Gpm:
    """The counters of one GPU, or of its MIG *instance* (the number of a GPU instance).

    *metrics* maps names to ids. A device that has no such counters is asked once; a refused permission is remembered.
    For use by one thread; `close` gives the two samples back to the driver.
    """

    def __init__(self, library: Any, handle: Any, metrics: Mapping[str, int], instance: int | None = None) -> None:
        self._library = library
        self._names = list(metrics)
        self._ids = dict(metrics)
        self._support = Query(library, ("nvmlGpmQueryDeviceSupport",), (handle,))
        self._alloc = Query(library, ("nvmlGpmSampleAlloc",), ())
        self._get = (
            Query(library, ("nvmlGpmSampleGet",), (handle,))
            if instance is None
            else Query(library, ("nvmlGpmMigSampleGet",), (handle, instance))
        )
        self._compare = Query(library, ("nvmlGpmMetricsGet",), ())
        self._free = Query(library, ("nvmlGpmSampleFree",), ())
        self._samples: list[Any] = []
        self._room = Pace(_RETRY_S)
        self._request: Any = None
        self._taken_s: float | None = None
        self._last: dict[str, Reading] = {}
        self._over: Absent | None = None

    def read(self, now_s: float) -> Mapping[str, Reading]:
        """The metrics since the read before. Empty on a device that has no such counters. Never raises.

        Absent are: all of them at the first read, and what the driver did not give.
        """
        if self._over is Absent.NOT_SUPPORTED:
            return {}
        if self._over is None and (self._taken_s is None or now_s - self._taken_s >= _APART_S):
            try:
                self._last = self._measure(now_s)
            except (DeviceLost, SessionLost) as lost:
                self._taken_s = None
                reason = lost.reason if isinstance(lost, SessionLost) else Absent.DEVICE_LOST
                self._last = self._all(reason)
        return self._last

    def keep(self, names: Collection[str]) -> None:
        """Measure no other metrics than *names* from now on."""
        self._names = [name for name in self._names if name in names]

    def close(self) -> None:
        """Give the samples back. Never raises."""
        samples, self._samples, self._taken_s = self._samples, [], None
        self._give_back(samples)

    def _give_back(self, samples: Sequence[Any]) -> None:
        for sample in samples:
            with contextlib.suppress(DeviceLost, SessionLost):
                self._free.ask(sample)

    def _measure(self, now_s: float) -> dict[str, Reading]:
        if not self._samples:
            if not self._room.is_due(now_s):
                return self._last
            if (reason := self._prepare(now_s)) is not None:
                return self._refuse(reason)
        older, newer = self._samples
        answer = self._get.ask(newer)
        if isinstance(answer, Absent):
            self._taken_s = None
            return self._refuse(answer)
        first, self._taken_s = self._taken_s is None, now_s
        self._samples = [newer, older]
        if first:
            return self._all(Absent.FIRST_SAMPLE)
        request = self._request
        request.sample1, request.sample2 = older, newer
        request.numMetrics = len(self._names)
        for index, name in enumerate(self._names):
            request.metrics[index].metricId = self._ids[name]
        answer = self._compare.ask(request)
        return self._refuse(answer) if isinstance(answer, Absent) else self._values(request.metrics)

    def _prepare(self, now_s: float) -> Absent | None:
        """Ask for support and allocate; the reason when there is nothing to measure with."""
        support = self._support.ask()
        if isinstance(support, Absent):
            return support
        if not support.isSupportedDevice or not self._names:
            return Absent.NOT_SUPPORTED
        samples: list[Any] = []
        try:
            while len(samples) < 2:
                sample = self._alloc.ask()
                if isinstance(sample, Absent):
                    return sample
                samples.append(sample)
            self._samples = samples
        finally:
            if not self._samples:
                self._room.due(now_s)
                self._give_back(samples)
        self._request = self._library.c_nvmlGpmMetricsGet_t()
        self._request.version = self._library.NVML_GPM_METRICS_GET_VERSION
        return None

    def _refuse(self, reason: Absent) -> dict[str, Reading]:
        if reason in (Absent.NOT_SUPPORTED, Absent.NO_PERMISSION):
            self._over = reason
            self.close()
        return {} if reason is Absent.NOT_SUPPORTED else self._all(reason)

    def _values(self, answers: Sequence[Any]) -> dict[str, Reading]:
        values: dict[str, Reading] = {}
        unknown = []
        for index, name in enumerate(self._names):
            code = answers[index].nvmlReturn
            if code == 0:
                values[name] = _value_of(name, answers[index].value)
            elif code in UNKNOWN_TO_DRIVER or code == INVALID_ARGUMENT:
                unknown.append(name)
            else:
                values[name] = reason_of(code)
        if unknown:
            self._names = [name for name in self._names if name not in unknown]
            if not self._names:
                return self._refuse(Absent.NOT_SUPPORTED)
        return values

    def _all(self, reason: Absent) -> dict[str, Reading]:
        return dict.fromkeys(self._names, reason)


def _value_of(name: str, value: float) -> Reading:
    if name in _RATES:
        return value * _MIB if 0.0 <= value * _MIB <= _MOST_RATE else Absent.BAD_VALUE
    # Two samples of counters that run on while they are read can come out a little above all.
    return min(value, 100.0) / 100.0 if 0.0 <= value <= 101.0 else Absent.BAD_VALUE
