"""A stand-in for the pynvml module: scripted cards, pynvml's own constants, structures and errors."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

UINT, ULONGLONG, SINT = 1, 3, 5


@dataclass
class FakeCard:
    """What one card answers. ``errors`` maps a function's name or a field id to the code that it ends with."""

    uuid: str = "GPU-0"
    name: str | bytes = "NVIDIA H200"
    numbers: dict[str, Any] = field(
        default_factory=lambda: {
            "nvmlDeviceGetTemperatureV": 34,
            "nvmlDeviceGetTemperature": 34,
            "nvmlDeviceGetMarginTemperature": 53,
            "nvmlDeviceGetCurrentClocksEventReasons": 1,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 1,
            "nvmlDeviceGetFanSpeed_v2": 42,
            "nvmlDeviceGetPowerUsage": 116_000,
            "nvmlDeviceGetTotalEnergyConsumption": 9_000,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetMemoryBusWidth": 6144,
            "nvmlDeviceGetNumGpuCores": 16896,
            "nvmlDeviceGetCudaComputeCapability": (9, 0),
            "nvmlDeviceGetSupportedClocksEventReasons": 0x1FF,
            "nvmlDeviceGetCurrPcieLinkGeneration": 5,
            "nvmlDeviceGetCurrPcieLinkWidth": 16,
            "nvmlDeviceGetMaxPcieLinkGeneration": 5,
            "nvmlDeviceGetMaxPcieLinkWidth": 16,
            "nvmlDeviceGetVbiosVersion": "96.00.AF.00.01",
            "nvmlDeviceGetMigMode": [0, 0],
        }
    )
    fields: dict[int, tuple[int, float]] = field(
        default_factory=lambda: {
            5: (ULONGLONG, 7),
            6: (ULONGLONG, 2),
            82: (UINT, 33),
            83: (ULONGLONG, 2**40),
            94: (UINT, 4),
            138: (ULONGLONG, 1000),
            139: (ULONGLONG, 2000),
            142: (UINT, 1),
            143: (UINT, 2),
            144: (UINT, 0),
            145: (UINT, 0),
            186: (UINT, 81_000),
            194: (SINT, -2),
            230: (UINT, 0),
            **dict.fromkeys((74, 75, 76, 77, 79, 269, 270, 271), (ULONGLONG, 0)),
        }
    )
    utilization: int = 37
    clocks: dict[int, int] = field(default_factory=lambda: {1: 345, 2: 3201})
    most_clocks: dict[int, int] = field(default_factory=lambda: {1: 1980, 2: 3201})
    memory: tuple[int, int, int] = (150754820096, 0, 150109880320)
    errors: dict[str | int, int] = field(default_factory=lambda: {"nvmlDeviceGetFanSpeed_v2": 3})
    processes: dict[str, list[tuple[int, int | None]]] = field(default_factory=dict)
    """What runs, by ``Compute``, ``Graphics`` and ``MPSCompute``: process ids and bytes."""
    gpm: dict[int, float | int] | None = None
    """Metrics by id; an integer is the code that one ends with. None: the card has no GPM."""
    instances: list[FakeCard] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Handle:
    """What the driver calls a card; good for one run of NVML."""

    card: FakeCard
    start: int


class NvmlStandIn:
    """The functions of pynvml that hwdash uses, over *cards*. ``calls`` counts them by name.

    ``errors`` are for functions without a device. ``missing`` names functions that the driver lacks. ``hanging``
    holds an event that every call on the card of that UUID waits for.
    """

    NVMLError = pynvml.NVMLError

    def __init__(self, *cards: FakeCard) -> None:
        self.cards = list(cards)
        self.errors: dict[str, int] = {}
        self.missing: set[str] = set()
        self.hanging: dict[str, threading.Event] = {}
        self.calls: Counter[str] = Counter()
        self.asked_fields: list[int] = []
        self.scopes: dict[int, int] = {}
        self.running = False
        self.starts = 0
        self.events: queue.SimpleQueue[tuple[FakeCard, int, int]] | None = None
        self.handles: dict[str, Handle] = {}
        self.sets = 0
        self.gpm_samples = 0
        self.nvmlLib = SimpleNamespace(nvmlDeviceGetFieldValues=self._field_values)
        self.c_nvmlFieldValue_t = pynvml.c_nvmlFieldValue_t
        self.c_nvmlGpmMetricsGet_t = pynvml.c_nvmlGpmMetricsGet_t
        self.NVML_GPM_METRICS_GET_VERSION = pynvml.NVML_GPM_METRICS_GET_VERSION

    def __getattr__(self, name: str) -> Any:
        """Every number-giving function of a device."""
        if not name.startswith("nvmlDeviceGet"):
            raise AttributeError(name)
        if "RunningProcesses" in name:
            return lambda handle: self._processes(name, handle)
        return lambda handle, *_: self._number(name, handle)

    def _number(self, name: str, handle: Any) -> Any:
        numbers = self._device(name, handle).numbers
        if name not in numbers:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return numbers[name]

    def _processes(self, name: str, handle: Any) -> list[Any]:
        card = self._device(name, handle)
        kind = name.removeprefix("nvmlDeviceGet").partition("RunningProcesses")[0]
        version = name.rpartition("_")[2]
        found = card.processes.get(f"{kind}_{version}", card.processes.get(kind, []))
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in found]

    def _begin(self, name: str) -> None:
        self.calls[name] += 1
        if name in self.missing:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        if name in self.errors:
            raise pynvml.NVMLError(self.errors[name])
        if not self.running and name != "nvmlInit":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)

    def _device(self, name: str, handle: Any) -> FakeCard:
        self._begin(name)
        card, start = handle.card, handle.start
        if start != self.starts:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        if card.uuid in self.hanging:
            self.hanging[card.uuid].wait()
        if code := card.errors.get(name) or card.errors.get("*"):
            raise pynvml.NVMLError(code)
        assert isinstance(card, FakeCard)
        return card

    def nvmlInit(self) -> None:
        self._begin("nvmlInit")
        self.running = True
        self.starts += 1

    def nvmlShutdown(self) -> None:
        self._begin("nvmlShutdown")
        self.running = False

    def nvmlSystemGetDriverVersion(self) -> str:
        self._begin("nvmlSystemGetDriverVersion")
        return "580.159.04"

    def nvmlDeviceGetCount(self) -> int:
        self._begin("nvmlDeviceGetCount")
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        return self._handle("nvmlDeviceGetHandleByIndex", self.cards[index])

    def _handle(self, name: str, card: FakeCard) -> Handle:
        handle = self.handles.get(card.uuid)
        if handle is None or handle.start != self.starts or handle.card is not card:
            handle = self.handles[card.uuid] = Handle(card, self.starts)
        self._device(name, handle)
        return handle

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:
        self._begin("nvmlDeviceGetHandleByUUID")
        for card in (*self.cards, *(instance for parent in self.cards for instance in parent.instances)):
            if card.uuid == uuid:
                return self._handle("nvmlDeviceGetHandleByUUID", card)
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetUUID(self, handle: Any) -> str:
        return self._device("nvmlDeviceGetUUID", handle).uuid

    def nvmlDeviceGetName(self, handle: Any) -> str:
        name = self._device("nvmlDeviceGetName", handle).name
        return name.decode() if isinstance(name, bytes) else name

    def nvmlDeviceGetPciInfo_v3(self, handle: Any) -> Any:
        self._device("nvmlDeviceGetPciInfo_v3", handle)
        return SimpleNamespace(busId=b"00000000:00:06.0")

    def nvmlDeviceGetTemperatureThreshold(self, handle: Any, which: int) -> int:
        self._device("nvmlDeviceGetTemperatureThreshold", handle)
        return {0: 95, 1: 89, 2: 95}[which]

    def nvmlDeviceGetMaxClockInfo(self, handle: Any, which: int) -> int:
        return self._device("nvmlDeviceGetMaxClockInfo", handle).most_clocks[which]

    def nvmlDeviceGetClockInfo(self, handle: Any, which: int) -> int:
        return self._device("nvmlDeviceGetClockInfo", handle).clocks[which]

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:
        return SimpleNamespace(gpu=self._device("nvmlDeviceGetUtilizationRates", handle).utilization, memory=99)

    def nvmlDeviceGetMemoryInfo(self, handle: Any, version: int | None = None) -> Any:
        name = "nvmlDeviceGetMemoryInfo_v2" if version else "nvmlDeviceGetMemoryInfo"
        total, used, free = self._device(name, handle).memory
        assert version in (None, pynvml.nvmlMemory_v2)
        return SimpleNamespace(total=total, used=used if version else total - free, free=free)

    def _field_values(self, handle: Any, count: int, values: Any) -> int:
        """The C function, which ends with a code."""
        try:
            card = self._device("nvmlDeviceGetFieldValues", handle)
        except pynvml.NVMLError as error:
            return int(error.value)
        assert len(values) == count
        self.asked_fields = [item.fieldId for item in values]
        self.scopes |= {item.fieldId: item.scopeId for item in values}
        for item in values:
            id_ = item.fieldId
            item.nvmlReturn = pynvml.NVML_SUCCESS
            if id_ in card.errors:
                item.nvmlReturn = card.errors[id_]
            elif id_ not in card.fields:
                item.nvmlReturn = pynvml.NVML_ERROR_NOT_SUPPORTED
            else:
                item.valueType, value = card.fields[id_]
                members = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
                if item.valueType < len(members):
                    setattr(item.value, members[item.valueType], value)
        return 0

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Any) -> int:
        self._device("nvmlDeviceGetMaxMigDeviceCount", handle)
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, index: int) -> Handle:
        card = self._device("nvmlDeviceGetMigDeviceHandleByIndex", handle)
        if index >= len(card.instances):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return self._handle("nvmlDeviceGetMigDeviceHandleByIndex", card.instances[index])

    def nvmlGpmQueryDeviceSupport(self, handle: Any) -> Any:
        return SimpleNamespace(isSupportedDevice=self._device("nvmlGpmQueryDeviceSupport", handle).gpm is not None)

    def nvmlGpmSampleAlloc(self) -> Any:
        self._begin("nvmlGpmSampleAlloc")
        self.gpm_samples += 1
        return pynvml.c_nvmlGpmSample_t(pynvml.struct_c_nvmlGpmSample_t())

    def nvmlGpmSampleFree(self, _sample: Any) -> None:
        self._begin("nvmlGpmSampleFree")
        self.gpm_samples -= 1

    def nvmlGpmSampleGet(self, handle: Any, sample: Any) -> Any:
        self.sampled = self._device("nvmlGpmSampleGet", handle)
        return sample

    def nvmlGpmMigSampleGet(self, handle: Any, number: int, sample: Any) -> Any:
        card = self._device("nvmlGpmMigSampleGet", handle)
        numbered = {each.numbers["nvmlDeviceGetGpuInstanceId"]: each for each in card.instances}
        if number not in numbered:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        self.sampled = numbered[number]
        return sample

    def nvmlGpmMetricsGet(self, request: Any) -> Any:
        self._begin("nvmlGpmMetricsGet")
        assert request.version == 1
        values = self.sampled.gpm or {}
        for metric in request.metrics[: request.numMetrics]:
            value = values.get(metric.metricId, pynvml.NVML_ERROR_NOT_SUPPORTED)
            metric.nvmlReturn, metric.value = (value, 0.0) if isinstance(value, int) else (0, value)
        return request

    def nvmlDeviceGetSupportedEventTypes(self, handle: Any) -> int:
        self._device("nvmlDeviceGetSupportedEventTypes", handle)
        if self.events is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return int(pynvml.nvmlEventTypeAll)

    def nvmlEventSetCreate(self) -> Any:
        self._begin("nvmlEventSetCreate")
        self.sets += 1
        return object()

    def nvmlDeviceRegisterEvents(self, handle: Any, kinds: int, _events: Any) -> None:
        self._device("nvmlDeviceRegisterEvents", handle)
        assert not kinds & pynvml.nvmlEventTypeClock

    def nvmlEventSetWait_v2(self, _events: Any, timeout_ms: int) -> Any:
        self._begin("nvmlEventSetWait_v2")
        assert self.events is not None
        try:
            card, kind, data = self.events.get(timeout=min(timeout_ms, 50) / 1000)
        except queue.Empty:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT) from None
        return SimpleNamespace(device=self.handles[card.uuid], eventType=kind, eventData=data)

    def nvmlEventSetFree(self, _events: Any) -> None:
        self._begin("nvmlEventSetFree")
        self.sets -= 1
