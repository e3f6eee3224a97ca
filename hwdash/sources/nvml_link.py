"""The links of an NVIDIA GPU: NVLink traffic from byte counters, and the state of the PCIe link."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from hwdash.core.reading import Absent, Reading, is_present
from hwdash.sources.nvml_gpm import NVLINK_RATES, PCIE_RATES
from hwdash.sources.nvml_query import ALL_LINKS, FieldBatch, Query, within
from hwdash.sources.pace import Pace
from hwdash.sources.rate import Rate

_PERIOD_S = 30.0

_NVLINK = MappingProxyType({"nvlink_tx_bytes_per_s": (138, 1024.0), "nvlink_rx_bytes_per_s": (139, 1024.0)})
_NVLINK_5 = MappingProxyType({"nvlink_tx_bytes_per_s": (202, 1.0), "nvlink_rx_bytes_per_s": (204, 1.0)})
"""Counter by metric, with its unit in bytes (nvml.h: ``NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_*``, in KiB;
``…NVLINK_COUNT_*_BYTES``, from Blackwell on).

The counters of PCIe (``NVML_FI_DEV_PCIE_COUNT_*_BYTES``) have 32 bits: at the speed of a link of today they wrap many
times a second and tell nothing. That traffic is told by GPM, or not at all.
"""

_MOST_COUNT = 1e19

LINK_FIELDS = tuple(id_ for table in (_NVLINK, _NVLINK_5) for id_, _ in table.values())
"""Field ids of the byte counters."""
LINK_SCOPES = MappingProxyType({id_: ALL_LINKS for table in (_NVLINK, _NVLINK_5) for id_, _ in table.values()})
"""The scopes of those that have one."""


class Links:
    """The links of one GPU. Rates come from the fields of *batch*, which the caller reads.

    The generation and width of the PCIe link change only with the power state: they are asked for every 30 s, and
    when the caller calls `hasten`.
    """

    def __init__(self, library: Any, handle: Any, batch: FieldBatch, phase: float) -> None:
        self._batch = batch
        self._state = {
            "pcie_link_generation": Query(library, ("nvmlDeviceGetCurrPcieLinkGeneration",), (handle,)),
            "pcie_link_width": Query(library, ("nvmlDeviceGetCurrPcieLinkWidth",), (handle,)),
        }
        self._pace = Pace(_PERIOD_S, phase)
        self._states: dict[str, Reading] = {}
        self._rates: dict[str, tuple[int, float, Rate]] = {}
        self._open = [*_NVLINK]

    def hasten(self) -> None:
        """Ask for the state of the link with the next read: the power state has changed."""
        self._pace.hasten()

    @property
    def is_settled(self) -> bool:
        """True once it is known which counters the device has."""
        return not self._open

    def without_counter(self) -> Mapping[str, int]:
        """The rates that no counter tells so far and GPM may, by GPM id; after a read of the batch."""
        known = self._settled() if self._open else self._rates
        return {name: id_ for name, id_ in {**PCIE_RATES, **NVLINK_RATES}.items() if name not in known}

    def read(self, now_s: float) -> dict[str, Reading]:
        """Rates and link state. A rate that no counter tells is not a key, unless its counters fail. Raises as `judge`."""
        if self._pace.due(now_s):
            low_high = {"pcie_link_generation": (1.0, 16.0), "pcie_link_width": (1.0, 64.0)}
            self._states = {name: within(query.ask(), *low_high[name]) for name, query in self._state.items()}
        readings: dict[str, Reading] = dict(self._states)
        for name, (id_, unit, rate) in (self._settled() if self._open else self._rates).items():
            readings[name] = rate.update(within(self._batch.get(id_), 0.0, _MOST_COUNT, unit), now_s)
        for name in self._open:
            readings[name] = self._why_open(name)
        return readings

    def _why_open(self, name: str) -> Reading:
        answers = (self._batch.get(table[name][0]) for table in (_NVLINK, _NVLINK_5))
        return next((answer for answer in answers if answer is not Absent.NOT_SUPPORTED), Absent.ERROR)

    def _settled(self) -> dict[str, tuple[int, float, Rate]]:
        """The counters that the device has, as far as it answered: it has one that gave a number once."""
        for name in tuple(self._open):
            choices = {table[name][0]: table[name] for table in (_NVLINK, _NVLINK_5)}
            answers = {id_: self._batch.get(id_) for id_ in choices}
            chosen = next((id_ for id_, answer in answers.items() if is_present(answer)), None)
            if chosen is None:
                if any(answer is not Absent.NOT_SUPPORTED for answer in answers.values()):
                    continue
            else:
                self._rates[name] = (*choices.pop(chosen), Rate())
                for other in choices:
                    self._batch.drop(other)
            self._open.remove(name)
        return self._rates
