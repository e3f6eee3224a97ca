"""XIDs, the error numbers of NVIDIA's driver, and other events in words. Pure functions.

After NVIDIA's document "XID Errors" (docs.nvidia.com/deploy/xid-errors).
"""

from __future__ import annotations

from types import MappingProxyType

from hwdash.core.event import Severity
from hwdash.core.sample import Notice

DOUBLE_BIT_ECC = 0x2
XID = 0x8
DRAM_RETIREMENT = 0x400
DRAM_RETIREMENT_FAILURE = 0x800
NON_FATAL_POISON = 0x1000
FATAL_POISON = 0x2000
GPU_UNAVAILABLE = 0x4000
RECOVERY_ACTION = 0x8000

WANTED = (
    DOUBLE_BIT_ECC
    | XID
    | DRAM_RETIREMENT
    | DRAM_RETIREMENT_FAILURE
    | NON_FATAL_POISON
    | FATAL_POISON
    | GPU_UNAVAILABLE
    | RECOVERY_ACTION
)
"""The event types worth a notice (nvml.h: ``nvmlEventType*``); clock and P-state changes are too many."""

_CRITICAL = frozenset({48, 61, 62, 64, 74, 79, 95, 110, 119, 120, 136, 140, 143, 151, 158})
"""XIDs after which the GPU, or what runs on it, cannot be relied on before a reset or a repair."""

_PROGRAM = "most often a fault of the program that used it"
_XIDS = MappingProxyType(
    {
        8: "the GPU stopped processing",
        13: f"exception in the graphics engine, {_PROGRAM}",
        31: f"memory page fault, {_PROGRAM}",
        32: "corrupt command stream, a fault of the program or of PCIe",
        38: "driver firmware error",
        43: f"the GPU stopped processing for a program, {_PROGRAM}",
        45: "work was torn down after a program ended or an earlier error",
        48: "memory error that ECC could not correct: reset the GPU",
        61: "its microcontroller hit a breakpoint: reset the GPU",
        62: "its microcontroller halted: reset the GPU",
        63: "a faulty memory row was recorded for remapping: reset the GPU when it is free",
        64: "a faulty memory row could not be recorded for remapping: reset the GPU, replace it if this repeats",
        68: "exception in the video decoder",
        69: f"class error in the graphics engine, {_PROGRAM}",
        74: "NVLink error: look at the links (nvidia-smi nvlink -e), reset the GPU",
        79: "the GPU has fallen off the bus: check power, cooling and seating, then power-cycle the machine",
        92: "many memory errors that ECC corrected",
        94: "contained memory error: restart the program that was hit, reset the GPU when it is free",
        95: "uncontained memory error: all programs on the GPU are hit, reset it",
        109: "context switch timed out",
        110: "security fault: reset the GPU",
        119: "its system processor (GSP) does not answer: reset the GPU",
        120: "error in its system processor (GSP): reset the GPU",
        121: "error that was corrected on the link to the processor (C2C)",
        136: "its link to the processor or a peer did not train: reset the GPU",
        137: f"NVLink access fault, {_PROGRAM}",
        140: "memory error that could not be recovered from: reset the GPU",
        143: "the GPU could not be initialised",
        154: "the recovery that the GPU needs has changed: see nvidia-smi -q",
    }
)

_EVENTS = MappingProxyType(
    {
        DOUBLE_BIT_ECC: ("memory error that ECC could not correct", Severity.CRITICAL),
        DRAM_RETIREMENT: ("a faulty piece of memory was retired", Severity.WARNING),
        DRAM_RETIREMENT_FAILURE: ("a faulty piece of memory could not be retired", Severity.CRITICAL),
        NON_FATAL_POISON: ("poisoned data was met and contained", Severity.WARNING),
        FATAL_POISON: ("poisoned data was met and not contained", Severity.CRITICAL),
        GPU_UNAVAILABLE: ("the driver says that the GPU is unavailable", Severity.CRITICAL),
        RECOVERY_ACTION: ("the recovery that the GPU needs has changed: see nvidia-smi -q", Severity.WARNING),
    }
)


def notice_of(kind: int, data: int) -> Notice | None:
    """An event of type *kind* with its *data* in words; None for one that says nothing about the device's state."""
    if kind == XID:
        words = _XIDS.get(data, "see NVIDIA's list of XID errors and dmesg")
        return Notice(f"XID {data}: {words}", Severity.CRITICAL if data in _CRITICAL else Severity.WARNING)
    if kind not in _EVENTS:
        return None
    words, severity = _EVENTS[kind]
    return Notice(words, severity)
