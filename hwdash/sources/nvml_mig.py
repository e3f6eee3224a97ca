"""MIG: the instances of a partitioned NVIDIA GPU, each a device of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from hwdash.core.device import Device, Limits
from hwdash.core.reading import Absent, Reading
from hwdash.core.sample import Sample
from hwdash.core.text import sanitise_line
from hwdash.sources.nvml_facts import text_of
from hwdash.sources.nvml_gpm import INSTANCE_SHARES, Gpm
from hwdash.sources.nvml_memory import Memory
from hwdash.sources.nvml_process import ProcessList
from hwdash.sources.nvml_query import Query
from hwdash.sources.nvml_session import INVALID_ARGUMENT, NOT_FOUND, UNKNOWN_TO_DRIVER
from hwdash.sources.nvml_throttle import Throttle
from hwdash.sources.sysfs import Tree

_MOST_INSTANCES = 64
_NO_SUCH_INSTANCE = UNKNOWN_TO_DRIVER | {NOT_FOUND, INVALID_ARGUMENT}
_ONLY_THE_PARENT_TELLS = ("temperature_c", "power_w", "clock_hz")

INSTANCE_METRICS = ("utilization", "memory_used_bytes", "memory_total_bytes", *_ONLY_THE_PARENT_TELLS)
"""Every metric that is asked for on any MIG instance."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A MIG instance as it is found. ``number`` is that of its GPU instance, None where the driver does not tell."""

    device: Device
    uuid: str
    number: int | None


def slices_of(library: Any, handle: Any, parent: Device) -> list[Slice]:
    """The instances of the partitioned GPU *parent*. Raises `hwdash.sources.source.DeviceLost` when it is gone."""
    count = Query(library, ("nvmlDeviceGetMaxMigDeviceCount",), (handle,)).ask()
    if isinstance(count, Absent):
        return []
    return [
        found for index in range(min(int(count), _MOST_INSTANCES)) for found in _slice(library, handle, parent, index)
    ]


def _slice(library: Any, handle: Any, parent: Device, index: int) -> Iterator[Slice]:
    def ask(name: str, *arguments: Any) -> Any | Absent:
        return Query(library, (name,), arguments, _NO_SUCH_INSTANCE).ask()

    instance = ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
    if isinstance(instance, Absent):
        return
    raw = ask("nvmlDeviceGetUUID", instance)
    if isinstance(raw, Absent):
        return
    uuid = text_of(raw)
    attributes = ask("nvmlDeviceGetAttributes_v2", instance)
    number = ask("nvmlDeviceGetGpuInstanceId", instance)
    units = None if isinstance(attributes, Absent) else int(attributes.multiprocessorCount) or None
    yield Slice(
        replace(
            parent,
            key=f"nvidia:{uuid}",
            name=_name(ask("nvmlDeviceGetName", instance), parent, attributes),
            capabilities=replace(parent.capabilities, compute_units=units, inference=True),
            limits=Limits(),
            visible_as=uuid,
            parent=parent.key,
        ),
        uuid,
        None if isinstance(number, Absent) else int(number),
    )


def _name(told: Any, parent: Device, attributes: Any) -> str:
    """The driver's own name where it says what the instance is, else one in the same style."""
    if not isinstance(told, Absent) and "MIG" in text_of(told):
        return text_of(told)
    if isinstance(attributes, Absent):
        return f"{parent.name} MIG"
    gib = round(int(attributes.memorySizeMB) / 1024)
    return sanitise_line(f"{parent.name} MIG {int(attributes.gpuInstanceSliceCount)}g.{gib}gb")


class Instance:
    """One MIG instance of one NVML session: memory, programs and, on Hopper and later, utilisation are its own.

    Temperature, power and clocks are those of the whole GPU and told there. Whether the clocks are held down is true of
    every instance alike: *throttle* gives what the *parent*'s newest read said.
    """

    def __init__(
        self,
        library: Any,
        handles: tuple[Any, Any],
        number: int | None,
        pool_id: str,
        tree: Tree,
        phase: float,
        throttle: Callable[[], Throttle],
    ) -> None:
        handle, parent = handles
        self._throttle = throttle
        self._memory = Memory(library, handle, pool_id)
        self._processes = ProcessList(library, handle, tree, phase)
        self._gpm = None if number is None else Gpm(library, parent, INSTANCE_SHARES, number)

    def read(self, key: str, monotonic_s: float, taken_at: datetime, fresh: bool = False) -> Sample:
        """One sample of the instance, which goes by *key*. Raises as `hwdash.sources.nvml_card.Card.read` does."""
        memory, pools = self._memory.read(monotonic_s)
        readings: dict[str, Reading] = {"utilization": Absent.NOT_SUPPORTED, **memory}
        readings |= dict.fromkeys(_ONLY_THE_PARENT_TELLS, Absent.NOT_SUPPORTED)
        if self._gpm is not None:
            readings |= self._gpm.read(monotonic_s)
        throttle = self._throttle()
        return Sample(
            key,
            monotonic_s,
            taken_at,
            readings,
            pools,
            throttle.flags,
            unknown_flags=throttle.unknown,
            throttle_known=throttle.known,
            clock_is_set=throttle.clock_is_set,
            processes=self._processes.read(monotonic_s),
        )

    def close(self) -> None:
        """Give back what NVML holds for this instance. Never raises."""
        if self._gpm is not None:
            self._gpm.close()
