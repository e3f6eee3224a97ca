"""What a device is: the facts that do not change between two samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from hwdash.core.trial import DtypeSpeed


class DeviceKind(StrEnum):
    """What sort of processor a device is."""

    GPU = "gpu"
    NPU = "npu"
    TPU = "tpu"
    FPGA = "fpga"
    CPU = "cpu"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a device can compute.

    ``dtypes`` names only precisions that the hardware executes natively (``fp32``, ``fp16``, ``bf16``, ``fp8``,
    ``int8``). ``compute_units`` counts multiprocessors, compute units or cores. ``inference`` is true when the
    embedded engine can run a model on it, or a server answers for it. ``tried`` is how fast precisions were found to be
    here, with this driver and torch; empty before they were tried.
    """

    compute_capability: str | None = None
    dtypes: tuple[str, ...] = ()
    compute_units: int | None = None
    inference: bool = False
    tried: tuple[DtypeSpeed, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """The edges of a device, in base units; None where it does not tell.

    ``memory_bandwidth_bytes_per_s`` is the peak that its memory's clock and bus width allow.
    """

    power_w: float | None = None
    temperature_slowdown_c: float | None = None
    temperature_shutdown_c: float | None = None
    memory_temperature_max_c: float | None = None
    clock_hz: float | None = None
    pcie_link_generation: int | None = None
    pcie_link_width: int | None = None
    memory_bandwidth_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class MemoryPool:
    """One memory that a model could live in. ``free_bytes`` is what can be allocated, which may be less than total - used.

    ``shared`` marks memory of the host that the device may use besides its own; ``numa_node`` the node of the host
    that it belongs to.
    """

    id: str
    total_bytes: int
    used_bytes: int
    free_bytes: int
    shared: bool = False
    numa_node: int | None = None


@dataclass(frozen=True, slots=True)
class Runtime:
    """How to compute on a device that the built-in engine has no knowledge of.

    Either torch: its *torch_device* string, the *module* whose import registers it, and the environment variable
    *visible_variable* that pins a process to one device by ``Device.visible_as``. Or *url*: the base of an
    OpenAI-compatible server that serves the chip.
    """

    torch_device: str | None = None
    module: str | None = None
    visible_variable: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """A device's identity and fixed facts.

    ``key`` is stable across reboots and names the device in history (``nvidia:GPU-…``); ``id`` is short, for
    people, and given out by the monitor (``gpu0``). ``visible_as`` is what a worker needs in order to see this very
    device and no other (for NVIDIA the UUID); it never leaves the daemon's host in a decision by index. ``parent`` is
    the key of the device that this one is a partition of (a MIG instance), ``spans_pools`` true when one program can
    use all pools together (the NUMA nodes of a host). ``members`` are the devices that a group of several consists of,
    the one that leads it first; empty for a device (`hwdash.core.group`).
    """

    key: str
    kind: DeviceKind
    vendor: str
    name: str
    source: str
    id: str = ""
    driver: str | None = None
    pci: str | None = None
    capabilities: Capabilities = field(default_factory=Capabilities)
    limits: Limits = field(default_factory=Limits)
    visible_as: str | None = None
    parent: str | None = None
    firmware: str | None = None
    runtime: Runtime | None = None
    spans_pools: bool = False
    members: tuple[Device, ...] = ()
