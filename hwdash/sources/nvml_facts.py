"""What an NVIDIA GPU is: the facts that are asked for once, because some of them cost milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from hwdash.core.device import Capabilities, Device, DeviceKind, Limits
from hwdash.core.reading import Absent
from hwdash.core.text import sanitise_line
from hwdash.sources.nvml_query import Query

T = TypeVar("T")

SOURCE_NAME = "nvml"

_DTYPES = (("fp32", (0, 0)), ("fp16", (5, 3)), ("bf16", (8, 0)), ("fp8", (8, 9)), ("int8", (6, 1)))
"""Precisions with the first compute capability whose instructions execute them (CUDA C++ programming guide, PTX ISA)."""

_CORES_PER_MULTIPROCESSOR = {
    (3, 0): 192, (3, 2): 192, (3, 5): 192, (3, 7): 192, (5, 0): 128, (5, 2): 128, (5, 3): 128, (6, 0): 64, (6, 1): 128,
    (6, 2): 128, (7, 0): 64, (7, 2): 64, (7, 5): 64, (8, 0): 64, (8, 6): 128, (8, 7): 128, (8, 9): 128, (9, 0): 128,
    (10, 0): 128, (10, 3): 128, (11, 0): 128, (12, 0): 128, (12, 1): 128,
}  # fmt: skip
"""FP32 cores of one multiprocessor by compute capability (CUDA C++ programming guide, "Compute Capabilities")."""

_HBM_BUS_BITS = 1024
"""One HBM stack is 1024 bits wide; the widest GDDR card is 512."""

_CLOCK_SM, _CLOCK_MEMORY = 1, 2
_TRANSFERS_PER_CLOCK = 2
"""Every memory of a GPU since DDR moves data at both edges of the clock that NVML tells."""
_MOST_BYTES_PER_S = 1e15
_MIG_ON = 1
_THRESHOLD_SHUTDOWN, _THRESHOLD_SLOWDOWN, _THRESHOLD_MEMORY = 0, 1, 2


class Facts:
    """The fixed facts of one GPU, asked for one by one; each may be unknown.

    Raises `hwdash.sources.source.DeviceLost` from any method when the GPU is gone.
    """

    def __init__(self, library: Any, handle: Any) -> None:
        self._library = library
        self._handle = handle

    def device(self, uuid: str, driver: str | None) -> Device:
        """The device with everything but its present power limit."""
        return Device(
            key=f"nvidia:{sanitise_line(uuid)}",
            kind=DeviceKind.GPU,
            vendor="NVIDIA",
            name=self._text("nvmlDeviceGetName") or "NVIDIA GPU",
            source=SOURCE_NAME,
            driver=driver,
            pci=self._pci(),
            capabilities=self._capabilities(),
            limits=Limits(
                temperature_slowdown_c=self._threshold(_THRESHOLD_SLOWDOWN),
                temperature_shutdown_c=self._threshold(_THRESHOLD_SHUTDOWN),
                memory_temperature_max_c=self._threshold(_THRESHOLD_MEMORY),
                clock_hz=self._number("nvmlDeviceGetMaxClockInfo", _CLOCK_SM, scale=1e6),
                pcie_link_generation=self._count("nvmlDeviceGetMaxPcieLinkGeneration", 16),
                pcie_link_width=self._count("nvmlDeviceGetMaxPcieLinkWidth", 64),
                memory_bandwidth_bytes_per_s=self._memory_bandwidth(),
            ),
            visible_as=uuid,
            firmware=self._firmware(),
        )

    def power_limit_w(self) -> float | None:
        """The limit that is enforced now. An operator can change it at any time."""
        return self._number("nvmlDeviceGetEnforcedPowerLimit", scale=1e-3)

    def is_partitioned(self) -> bool | None:
        """True while MIG is on, False while it is off or not known, None for a GPU without MIG."""
        answer = Query(self._library, ("nvmlDeviceGetMigMode",), (self._handle,)).ask()
        if isinstance(answer, Absent):
            return None if answer is Absent.NOT_SUPPORTED else False
        return bool(answer[0] == _MIG_ON)

    def pool_id(self) -> str:
        """``hbm`` where the memory bus is as wide as only stacked memory is, else ``vram``."""
        width = self._number("nvmlDeviceGetMemoryBusWidth")
        return "hbm" if width is not None and width >= _HBM_BUS_BITS else "vram"

    def _memory_bandwidth(self) -> float | None:
        """Bytes per second: width of the bus x highest memory clock x 2 transfers a clock, as CUDA's own samples have it.

        An H200 (6144 bits, 3201 MHz) comes to 4.92 TB/s, its data sheet says 4.8.
        """
        bits = self._number("nvmlDeviceGetMemoryBusWidth")
        clock_hz = self._number("nvmlDeviceGetMaxClockInfo", _CLOCK_MEMORY, scale=1e6)
        if bits is None or clock_hz is None:
            return None
        rate = bits / 8 * clock_hz * _TRANSFERS_PER_CLOCK
        return rate if rate <= _MOST_BYTES_PER_S else None

    def _capabilities(self) -> Capabilities:
        version = self._ask("nvmlDeviceGetCudaComputeCapability", lambda pair: (int(pair[0]), int(pair[1])))
        if version is None:
            return Capabilities(dtypes=("fp32",), inference=True)
        cores = self._number("nvmlDeviceGetNumGpuCores")
        per_unit = _CORES_PER_MULTIPROCESSOR.get(version)
        return Capabilities(
            compute_capability=f"{version[0]}.{version[1]}",
            dtypes=tuple(name for name, first in _DTYPES if version >= first),
            compute_units=int(cores) // per_unit if cores and per_unit else None,
            inference=True,
        )

    def _firmware(self) -> str | None:
        version = self._text("nvmlDeviceGetVbiosVersion")
        return f"VBIOS {version}" if version else None

    def _count(self, name: str, most: int) -> int | None:
        number = self._number(name)
        return int(number) if number is not None and number <= most else None

    def _threshold(self, which: int) -> float | None:
        celsius = self._number("nvmlDeviceGetTemperatureThreshold", which)
        return celsius if celsius is not None and 0 < celsius < 200 else None

    def _pci(self) -> str | None:
        return self._ask("nvmlDeviceGetPciInfo_v3", lambda info: text_of(info.busId) or None)

    def _text(self, name: str) -> str | None:
        return self._ask(name, text_of)

    def _number(self, name: str, *arguments: int, scale: float = 1.0) -> float | None:
        return self._ask(name, lambda value: value * scale if value > 0 else None, *arguments)

    def _ask(self, name: str, convert: Callable[[Any], T], *arguments: int) -> T | None:
        try:
            answer = Query(self._library, (name,), (self._handle, *arguments)).ask()
            return None if isinstance(answer, Absent) else convert(answer)
        except (ValueError, TypeError):  # UnicodeDecodeError of a name that is not UTF-8, among others
            return None


def text_of(raw: str | bytes) -> str:
    """A driver's text as one safe line."""
    return sanitise_line(raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw)
