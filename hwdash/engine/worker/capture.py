"""What captured decoding needs of a device: launches that are captured once, and tokens that come back meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch


class Launch(Protocol):
    """A captured step."""

    def replay(self) -> None:
        """Launch it."""
        ...


class Mark(Protocol):
    """A moment in the device's work."""

    def record(self) -> None:
        """It is now, after all that was launched so far."""
        ...

    def synchronize(self) -> None:
        """Wait for it."""
        ...


class Capture(Protocol):
    """Captures steps on one device."""

    def capture(self, step: Callable[[], None], changed: Sequence[torch.Tensor]) -> Launch:
        """*step* as a launch. It is run once before, and what it *changed* is put back, whatever happens."""
        ...

    def landing(self, rows: int) -> tuple[torch.Tensor, Mark]:
        """Memory of the host into which the device writes *rows* tokens by itself, and a mark of when it has."""
        ...

    def forget(self) -> None:
        """All launches are forgotten: give their memory back."""
        ...

    def wait(self) -> None:
        """Wait for all that was launched."""
        ...


class CudaCapture:
    """`Capture` by CUDA's (and ROCm's) graphs, which share one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: object = None

    def capture(self, step: Callable[[], None], changed: Sequence[torch.Tensor]) -> Launch:
        """*step* as a graph."""
        kept = [tensor.clone() for tensor in changed]
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(stream), torch.inference_mode():
                step()
        finally:
            torch.cuda.current_stream().wait_stream(stream)
            for tensor, value in zip(changed, kept, strict=True):
                tensor.copy_(value)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            step()
        self._pool = self._pool or graph.pool()
        torch.cuda.synchronize(self._device)
        return graph

    def landing(self, rows: int) -> tuple[torch.Tensor, Mark]:
        """Pinned memory and an event."""
        return torch.empty(rows, dtype=torch.int64, pin_memory=True), torch.cuda.Event()

    def forget(self) -> None:
        """The next graph begins a pool of its own."""
        self._pool = None

    def wait(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize(self._device)
