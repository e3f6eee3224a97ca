"""The life of the NVML library in this process: load, start, start again after a driver change, let go."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hwdash.core.clock import Clock
from hwdash.core.reading import Absent
from hwdash.core.text import sanitise_line
from hwdash.sources.source import SourceUnavailable

_logger = logging.getLogger(__name__)

_RETRY_S = 5.0
"""How long a start, good or failed, is left alone: it can take seconds, and every reader asks for it."""

_PATIENCE_S = 3.0
"""How long anybody waits for a start or an end of NVML that another thread is about."""

# Return codes of nvml.h (enum nvmlReturn_t); they are the same in every release.
UNINITIALIZED = 1
INVALID_ARGUMENT = 2
NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
DRIVER_NOT_LOADED = 9
TIMEOUT = 10
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
LIB_RM_VERSION_MISMATCH = 18
ARGUMENT_VERSION_MISMATCH = 25
DEPRECATED = 26
GPU_NOT_FOUND = 28

UNKNOWN_TO_DRIVER = frozenset({NOT_SUPPORTED, FUNCTION_NOT_FOUND, ARGUMENT_VERSION_MISMATCH, DEPRECATED})
"""Answers that stay the same as long as device and driver do; there is no use in asking again."""

SESSION_OVER = frozenset({UNINITIALIZED, LIB_RM_VERSION_MISMATCH})
"""Answers after which no call works until NVML was started again."""

_REASONS = {
    NO_PERMISSION: Absent.NO_PERMISSION,
    TIMEOUT: Absent.TIMED_OUT,
    GPU_IS_LOST: Absent.DEVICE_LOST,
    LIB_RM_VERSION_MISMATCH: Absent.DRIVER_MISMATCH,
} | dict.fromkeys(UNKNOWN_TO_DRIVER, Absent.NOT_SUPPORTED)

AFTER_AN_UPDATE = "reboot or reload the nvidia kernel modules, then restart hwdash"
"""What to do about `Absent.DRIVER_MISMATCH`."""

SEE_DMESG = "run nvidia-smi and see dmesg"
"""What to do about an error of the driver that says no more than its name."""

# What is wrong, and what to do about it.
_MISMATCH = (
    "the NVIDIA driver in the kernel and its library are of different versions (a driver update?)",
    AFTER_AN_UPDATE,
)
_NO_LIBRARY = (
    "the NVIDIA driver is loaded but its library libnvidia-ml.so.1 is missing",
    "install the driver's NVML package, or start the container through the NVIDIA Container Toolkit (--gpus all)",
)
_NOT_LOADED = (
    "NVIDIA's library is installed but the kernel driver is not loaded",
    "load it (modprobe nvidia) and look for its messages in dmesg",
)
_NO_DEVICE_FILES = (
    "the NVIDIA driver is loaded but this process sees no GPU",
    "a container must be given them (--gpus all); elsewhere compare with nvidia-smi and dmesg",
)
_DENIED = (
    "no permission to talk to the NVIDIA driver",
    "this user needs access to /dev/nvidiactl and /dev/nvidia* (often the group video or render)",
)
_NO_BINDINGS = (
    "the Python package nvidia-ml-py is missing",
    "install it again with hwdash's own installation",
)
_HANGS = "see dmesg; the machine may need a reboot"


class NvmlDown(SourceUnavailable):
    """NVML cannot be started. ``reason`` is what that means for a metric."""

    def __init__(self, words: str = "", fix: str = "", reason: Absent = Absent.ERROR) -> None:
        super().__init__(words, fix)
        self.reason = reason


class SessionLost(Exception):
    """A running NVML session ended under a call. ``reason`` is what that means for a metric."""

    def __init__(self, reason: Absent) -> None:
        super().__init__(reason.value)
        self.reason = reason


def reason_of(code: int) -> Absent:
    """Why a metric is absent whose call ended with the NVML return *code*."""
    return _REASONS.get(code, Absent.ERROR)


def denied() -> NvmlDown:
    """The error for a driver, or a GPU, that this user may not talk to."""
    return NvmlDown(*_DENIED, Absent.NO_PERMISSION)


class NvmlSession:
    """NVML as started by this process. May be used from several threads.

    ``library`` is the pynvml module or a stand-in; None imports pynvml at the first start, so that a machine without
    NVIDIA never pays for it. ``sysroot`` is where ``/proc`` and ``/dev`` tell whether a driver is there.

    Starting and ending NVML concerns all GPUs, so that all of them wait for it; but not longer than 3 s after it began,
    for a driver can hang in it.
    """

    def __init__(self, library: Any | None, clock: Clock, sysroot: Path) -> None:
        self._library: Any = library
        self._clock = clock
        self._sysroot = sysroot
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._change: tuple[str, float] | None = None
        self._generation = 0
        self._running = False
        self._started = 0.0
        self._failure: tuple[float, NvmlDown] | None = None

    @property
    def library(self) -> Any:
        """The NVML bindings; only after `start` succeeded once."""
        return self._library

    @property
    def generation(self) -> int:
        """The number of the newest run; 0 before the first."""
        return self._generation

    def start(self) -> int:
        """Start NVML unless it runs. Gives the number of this run: handles of another run must not be used.

        Raises `NvmlDown` with a sentence that says what to do; empty on a machine without an NVIDIA driver.
        """
        with self._lock:
            if self._change is not None:
                self._wait()
            if self._running:
                return self._generation
            if self._failure is not None and self._clock.monotonic() - self._failure[0] < _RETRY_S:
                raise self._failure[1]
            self._change = ("started", time.monotonic())
        down: NvmlDown | None = None
        begun = False
        try:
            self._initialise()
            begun = True
        except NvmlDown as error:
            down = error
            raise
        finally:
            with self._lock:
                self._failure = None if down is None else (self._clock.monotonic(), down)
                self._running = begun
                self._started = self._clock.monotonic()
                self._generation += begun
                generation = self._generation
                self._settle()
        return generation

    def restart(self, generation: int, before: Callable[[int], bool]) -> bool:
        """Have the next `start` begin a new run, unless that has happened since *generation*.

        *before* is called with *generation* just before it ends: True when nobody uses it any more. False when the run
        is so young that another start is not worth its cost, is still in use, or when the driver hangs.
        """
        with self._lock:
            try:
                self._wait()
            except NvmlDown:
                return False
            if not self._running or generation != self._generation:
                return True
            if self._clock.monotonic() - self._started < _RETRY_S:
                return False
            self._change = ("ended", time.monotonic())
        ended = False
        try:
            if before(generation):
                _logger.warning("NVML answers no longer; starting it again")
                ended = True
                self._shut_down()
        finally:
            with self._lock:
                self._running = not ended
                self._settle()
        return ended

    def close(self) -> None:
        """End NVML in this process, unless the driver hangs in it."""
        with self._lock:
            try:
                self._wait()
            except NvmlDown as down:
                _logger.warning("NVML is left as it is: %s", down)
                return
            if not self._running:
                return
            self._change = ("ended", time.monotonic())
        try:
            self._shut_down()
        finally:
            with self._lock:
                self._running = False
                self._settle()

    def _wait(self) -> None:
        """Wait for what another thread is about; with the lock held. Raises `NvmlDown` when that takes too long."""
        while self._change is not None:
            what, since_s = self._change
            rest_s = since_s + _PATIENCE_S - time.monotonic()
            if rest_s <= 0 or not self._changed.wait(rest_s):
                raise NvmlDown(f"the NVIDIA driver hangs while it is {what}", _HANGS, Absent.TIMED_OUT)

    def _settle(self) -> None:
        self._change = None
        self._changed.notify_all()

    def no_devices(self) -> NvmlDown:
        """The error for a driver that runs and shows no GPU."""
        return NvmlDown(*_NO_DEVICE_FILES)

    def over(self, reason: Absent) -> NvmlDown:
        """The error for a session that ends as soon as it is started."""
        if reason is Absent.DRIVER_MISMATCH:
            return NvmlDown(*_MISMATCH, reason)
        return NvmlDown("the NVIDIA driver ends every session at once", "see dmesg, and restart hwdash", reason)

    def _initialise(self) -> None:
        if self._library is None:
            if not _library_is_installed():
                raise self._no_library()
            try:
                import pynvml
            except ImportError:
                raise NvmlDown(*_NO_BINDINGS) from None
            self._library = pynvml
        try:
            self._library.nvmlInit()
        except self._library.NVMLError as error:
            raise self._down(error) from error

    def _shut_down(self) -> None:
        try:
            self._library.nvmlShutdown()
        except self._library.NVMLError as error:
            _logger.debug("nvmlShutdown: %s", error)

    def _down(self, error: Any) -> NvmlDown:
        code = int(error.value)
        if code == LIBRARY_NOT_FOUND:
            return self._no_library()
        if code == LIB_RM_VERSION_MISMATCH:
            return NvmlDown(*_MISMATCH, Absent.DRIVER_MISMATCH)
        if code == DRIVER_NOT_LOADED:
            return NvmlDown(*(_NO_DEVICE_FILES if self._has_driver() else _NOT_LOADED))
        if code == NO_PERMISSION:
            return denied()
        return NvmlDown(f"the NVIDIA driver did not start ({sanitise_line(str(error))})", SEE_DMESG)

    def _no_library(self) -> NvmlDown:
        return NvmlDown(*_NO_LIBRARY) if self._has_driver() else NvmlDown()

    def _has_driver(self) -> bool:
        try:
            return any((self._sysroot / place).exists() for place in ("proc/driver/nvidia/version", "dev/nvidiactl"))
        except PermissionError:
            return True


def _library_is_installed() -> bool:
    """True when the dynamic linker finds NVML."""
    import ctypes

    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True
