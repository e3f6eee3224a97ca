"""What an NVIDIA GPU says is wrong with it, from field values. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from hwdash.core.reading import Reading, is_present
from hwdash.core.sample import Fault, FaultLevel

_REMAP_PENDING = 144
_REMAP_FAILURE = 145
_RECOVERY_ACTION = 230

FAULT_FIELDS = (_REMAP_PENDING, _REMAP_FAILURE, _RECOVERY_ACTION)
"""Field ids that faults are made of (nvml.h: ``NVML_FI_DEV_REMAPPED_*``, ``…GET_GPU_RECOVERY_ACTION``)."""

_PENDING = Fault(
    "row_remap_pending",
    "a faulty memory row waits to be remapped: reset the GPU when nothing runs on it (nvidia-smi --gpu-reset), or reboot",
)
_FAILURE = Fault(
    "row_remap_failure",
    "a faulty memory row could not be remapped: run NVIDIA's field diagnostic and have the board replaced (RMA)",
)

_ACTIONS = MappingProxyType(
    {
        1: ("the driver asks for a reset of the GPU: nvidia-smi --gpu-reset, or reboot", FaultLevel.FAILED),
        2: ("the driver asks for a reboot of the machine", FaultLevel.FAILED),
        3: ("the driver asks that peer-to-peer traffic of the GPU be stopped, then a reset", FaultLevel.WARNING),
        4: ("the driver asks that no new work be given to the GPU, then a reset", FaultLevel.WARNING),
        5: ("the driver asks for a recovery of the IMEX domain of its NVLink partition", FaultLevel.WARNING),
        6: ("the driver asks for a reset of the GPU's bus", FaultLevel.FAILED),
        7: ("the driver asks for a reboot of the whole system", FaultLevel.FAILED),
    }
)
"""``NVML_GPU_RECOVERY_ACTION_*`` of nvml.h but for 0, none."""


def faults_of(field: Callable[[int], Reading]) -> tuple[Fault, ...]:
    """The faults that the *field* values tell of; a value that is absent tells of none."""
    faults = []
    if _is_set(field(_REMAP_PENDING)):
        faults.append(_PENDING)
    if _is_set(field(_REMAP_FAILURE)):
        faults.append(_FAILURE)
    action = field(_RECOVERY_ACTION)
    if is_present(action) and action > 0:
        number = int(min(action, 2**32))
        words, level = _ACTIONS.get(
            number, (f"the driver asks for recovery action {number}: see nvidia-smi -q", FaultLevel.WARNING)
        )
        faults.append(Fault("recovery_action", words, level))
    return tuple(faults)


def _is_set(value: Reading) -> bool:
    return is_present(value) and value > 0
