"""What a model takes on a device, and what is free there."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from hwdash.core.errors import DeviceFull
from hwdash.core.format import bytes_text
from hwdash.core.model import ModelShape
from hwdash.core.precision import ITEM_BYTES
from hwdash.engine.worker.host_memory import host_bytes

_MINIMAL_CONTEXT = 512
"""Tokens of context without which loading a model is of no use."""
_SLACK_BYTES = {"cpu": 64 * 2**20}
_ACCELERATOR_SLACK_BYTES = 256 * 2**20
"""What a first prompt takes besides weights and cache: the intermediate results, the libraries' work areas and code."""
_WANTED = re.compile(r"allocate ([\d.]+ [KMGT]?i?B|\d+ bytes)")


@dataclass(frozen=True, slots=True)
class Need:
    """What loading *model* takes: its *parameters* and, where it is known, what its cache does.

    Over several devices (*ranks*) each takes its part; an embedding that each of them holds whole is in the slack.
    """

    model: str
    parameters: int
    shape: ModelShape | None
    ranks: int = 1

    def weight_bytes(self, dtype: str) -> int:
        """Bytes of the weights in *dtype* on one device."""
        return self.parameters * ITEM_BYTES[dtype] // self.ranks

    def total_bytes(self, dtype: str, device: torch.device) -> int:
        """Bytes of weights, the cache of a short prompt and slack."""
        cache = self.shape.cache_bytes(dtype, _MINIMAL_CONTEXT) if self.shape is not None else 0
        return self.weight_bytes(dtype) + cache // self.ranks + _SLACK_BYTES.get(device.type, _ACCELERATOR_SLACK_BYTES)

    def text(self, dtype: str, device: torch.device) -> str:
        """The weights in *dtype* beside what is free on *device*, in words: ``16.1 GB of 139 GB free``."""
        free = available_bytes(device)
        return bytes_text(self.weight_bytes(dtype)) + (f" of {bytes_text(free)} free" if free is not None else "")

    def fitting(self, dtypes: Sequence[str], device: torch.device) -> Iterator[tuple[str, str]]:
        """Those of *dtypes* that fit into what is free when they are asked for, with why the first of all is not taken.

        Raises `DeviceFull` with numbers when none does.
        """
        fits = False
        for dtype in dtypes:
            free = available_bytes(device)
            needed = self.total_bytes(dtype, device)
            if free is not None and needed > free:
                continue
            fits = True
            yield dtype, "" if dtype == dtypes[0] else self._instead(dtypes[0], dtype, free, device)
        if not fits:
            needs = " and ".join(f"{bytes_text(self.total_bytes(dtype, device))} in {dtype}" for dtype in dtypes)
            raise DeviceFull(
                f"{self.model} needs {needs} and the device has {bytes_text(available_bytes(device) or 0)} free; "
                "end what uses it or choose another device"
            )

    def _instead(self, wanted: str, dtype: str, free: int | None, device: torch.device) -> str:
        has = f", {bytes_text(free)} free" if free is not None else ""
        return f"{dtype} instead of {wanted}: {bytes_text(self.total_bytes(wanted, device))} needed{has}"


def available_bytes(device: torch.device) -> int | None:
    """Memory that can still be allocated on *device*; None where nobody tells.

    An accelerator is asked through torch, which knows CUDA and ROCm as ``cuda`` and others by their own names. The host
    has what the kernel calls available, or less where a control group bounds this process.
    """
    if device.type == "cpu":
        return host_bytes()
    ask = getattr(getattr(torch, device.type, None), "mem_get_info", None)
    if ask is None:
        return None
    try:
        return int(ask(device)[0])
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether *error*, or what it came from, is want of memory, on an accelerator or the host."""
    return any(
        isinstance(one, torch.OutOfMemoryError | MemoryError) or tells_of_memory(str(one)) for one in _chain(error)
    )


def tells_of_memory(text: str) -> bool:
    """Whether *text* is what torch or a driver says for want of memory."""
    return "DefaultCPUAllocator" in text or "out of memory" in text.lower()


def out_of_memory_text(error: BaseException, device: torch.device | None) -> str:
    """What to tell of want of memory, with numbers where there are any."""
    wanted = next((found for one in _chain(error) if (found := _WANTED.search(str(one)))), None)
    free = available_bytes(device) if device is not None else None
    numbers = [f"{wanted[1]} more were needed"] if wanted else []
    numbers += [f"{bytes_text(free)} are free"] if free is not None else []
    told = f" ({', '.join(numbers)})" if numbers else ""
    return f"the device is out of memory{told}; use a shorter prompt, a smaller model or another device"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """*error* and what it was raised from or while."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def release_memory() -> None:
    """Give back what a failed load or request left on the device."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
