"""A stand-in for the pynvml module: scripted cards, pynvml's own constants, structures and errors."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
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
        }
    )
    fields: dict[int, tuple[int, float]] = field(
        default_factory=lambda: {
            6: (ULONGLONG, 2),
            82: (UINT, 33),
            83: (ULONGLONG, 2**40),
            142: (UINT, 1),
            143: (UINT, 2),
            186: (UINT, 81_000),
            **dict.fromkeys((74, 75, 76, 77, 79, 269, 270, 271), (ULONGLONG, 0)),
        }
    )
    utilization: int = 37
    clocks: dict[int, int] = field(default_factory=lambda: {1: 345, 2: 3201})
    memory: tuple[int, int, int] = (150754820096, 0, 150109880320)
    errors: dict[str | int, int] = field(default_factory=lambda: {"nvmlDeviceGetFanSpeed_v2": 3})


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
        self.running = False
        self.starts = 0

    def __getattr__(self, name: str) -> Any:
        """Every number-giving function of a device."""
        if not name.startswith("nvmlDeviceGet"):
            raise AttributeError(name)
        return lambda handle, *_: self._device(name, handle).numbers[name]

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
        card, start = handle
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
        handle = (self.cards[index], self.starts)
        self._device("nvmlDeviceGetHandleByIndex", handle)
        return handle

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:
        self._begin("nvmlDeviceGetHandleByUUID")
        for card in self.cards:
            if card.uuid == uuid:
                self._device("nvmlDeviceGetHandleByUUID", (card, self.starts))
                return (card, self.starts)
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

    def nvmlDeviceGetMaxClockInfo(self, handle: Any, _which: int) -> int:
        self._device("nvmlDeviceGetMaxClockInfo", handle)
        return 1980

    def nvmlDeviceGetClockInfo(self, handle: Any, which: int) -> int:
        return self._device("nvmlDeviceGetClockInfo", handle).clocks[which]

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:
        return SimpleNamespace(gpu=self._device("nvmlDeviceGetUtilizationRates", handle).utilization, memory=99)

    def nvmlDeviceGetMemoryInfo(self, handle: Any, version: int | None = None) -> Any:
        name = "nvmlDeviceGetMemoryInfo_v2" if version else "nvmlDeviceGetMemoryInfo"
        total, used, free = self._device(name, handle).memory
        assert version in (None, pynvml.nvmlMemory_v2)
        return SimpleNamespace(total=total, used=used if version else total - free, free=free)

    def nvmlDeviceGetFieldValues(self, handle: Any, ids: Sequence[tuple[int, int]]) -> Any:
        card = self._device("nvmlDeviceGetFieldValues", handle)
        self.asked_fields = [id_ for id_, _ in ids]
        values = (pynvml.c_nvmlFieldValue_t * len(ids))()
        for item, (id_, _) in zip(values, ids, strict=True):
            item.fieldId = id_
            if id_ in card.errors:
                item.nvmlReturn = card.errors[id_]
            elif id_ not in card.fields:
                item.nvmlReturn = pynvml.NVML_ERROR_NOT_SUPPORTED
            else:
                item.valueType, value = card.fields[id_]
                members = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
                if item.valueType < len(members):
                    setattr(item.value, members[item.valueType], value)
        return values
