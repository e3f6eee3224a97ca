"""The small operations of a layer, compiled by torch in the background while the model already answers.

What is compiled is `Plain`, for the numbers of rows that steps have; all other rows, such as those of prompts, keep the
operations from before. Nothing is compiled on the decoder's own thread: there a row of another kind is an error.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch

from hwdash.core.text import sanitise_line
from hwdash.engine.worker.likeness import TOLERANCE, Sample, difference, run, sample_of
from hwdash.engine.worker.network import Network
from hwdash.engine.worker.operation import Heads, Operations, Plain, Rotation

_GAIN = 0.03
"""What is not faster by so much is not worth another capture of every step."""
_VERSIONS = 8
_CALLS, _REPLAYS, _TRIES = 20, 5, 3
_log = logging.getLogger(__name__)

Compiler: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
Stopwatch: TypeAlias = Callable[[Callable[[], object]], float]
"""The seconds that a call takes on the device."""


class Compiled:
    """`Operations` by what *compiler* makes of torch's own, for numbers of rows in *sizes*; *others* do the rest."""

    def __init__(self, compiler: Compiler, sizes: Sequence[int], others: Operations) -> None:
        self._sizes = frozenset(sizes)
        self._others = others
        self._plain = Plain()
        self._turn = compiler(_turn)
        self._add_norm = compiler(_add_norm)
        self._gate = compiler(_gate)

    def rotation(self, cosines: torch.Tensor, sines: torch.Tensor, heads: Heads, dtype: torch.dtype) -> Rotation:
        """As those who turn need it."""
        chosen: Operations = self._plain if cosines.shape[0] in self._sizes else self._others
        return chosen.rotation(cosines, sines, heads, dtype)

    def turn(
        self, qkv: torch.Tensor, heads: Heads, rotation: Rotation, norm: torch.Tensor | None, epsilon: float
    ) -> torch.Tensor:
        """The turned heads, ``[T, all heads, width]``."""
        if qkv.shape[0] not in self._sizes or rotation.whole is None:
            return self._others.turn(qkv, heads, rotation, norm, epsilon)
        sizes = (heads.queries, heads.groups, heads.width)
        turned: torch.Tensor = self._turn(qkv, *sizes, *rotation.whole, norm, epsilon)
        return turned

    def add_norm(
        self, rows: torch.Tensor, more: torch.Tensor, weight: torch.Tensor, epsilon: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum and its norm."""
        if rows.shape[0] not in self._sizes:
            return self._others.add_norm(rows, more, weight, epsilon)
        total, normed = self._add_norm(rows, more, weight, epsilon)
        return total, normed

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """``silu(gate) * up``."""
        if gate_up.shape[0] not in self._sizes:
            return self._others.gate(gate_up)
        gated: torch.Tensor = self._gate(gate_up)
        return gated


class Upgrade:
    """Compiles the operations for *samples*, one of each number of rows, on a thread of its own. *words* tell how it went.

    *stopwatch* and *others* (the operations in use) decide whether they are worth it; that is asked on the decoder's
    thread, where nothing else uses the device meanwhile.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        others: Operations,
        *,
        compiler: Compiler | None = None,
        stopwatch: Stopwatch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.words = "better kernels are compiled in the background"
        self._samples = samples
        self._others = others
        self._compiler = compiler or _by_torch
        self._stopwatch = stopwatch or captured_seconds
        self._clock = clock
        self._began = clock()
        self._took_s = 0.0
        self._made: Compiled | None = None
        self._threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._compile, name="compile", daemon=True)

    def begin(self) -> None:
        """Start compiling."""
        self._began = self._clock()
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Compiling has come to an end, good or bad."""
        return self._thread.ident is not None and not self._thread.is_alive()

    def decide(self) -> Operations | None:
        """The compiled operations, once they are `ready`, if they are faster than those in use."""
        made, self._made = self._made, None
        if made is None:
            return None
        try:
            with torch.inference_mode():
                before, after = (self._seconds(kind) for kind in (self._others, made))
        except Exception as error:  # noqa: BLE001 - whatever keeps them from being run here, there are others
            self.failed(error)
            return None
        gain = 1 - after / before
        if gain < _GAIN:
            self.words = f"compiled kernels were ready after {self._took_s:.0f} s and not faster: they are not used"
            return None
        self.words = f"compiled kernels took over after {self._took_s:.0f} s: small operations are {gain:.0%} faster"
        return made

    def failed(self, error: Exception) -> None:
        """They could not be used because of *error*."""
        _log.warning("compiled kernels are not used", exc_info=error)
        reason = sanitise_line(str(error), 120) or type(error).__name__
        self.words = f"compiled kernels are not used: {reason}"

    def _seconds(self, operations: Operations) -> float:
        return sum(self._stopwatch(functools.partial(run, operations, sample)) for sample in self._timed())

    def _timed(self) -> Sequence[Sample]:
        """One row, and as many as eight."""
        several = max(self._samples, key=lambda sample: min(8, len(sample.rows)))
        return self._samples[:1] if several is self._samples[0] else (self._samples[0], several)

    def _compile(self) -> None:
        try:
            torch.set_num_threads(self._threads)  # a thread's own setting, and one that compiled code depends on
            device = self._samples[0].rows.device
            with torch.inference_mode(), _aside(device):
                made = Compiled(self._compiler, [len(sample.rows) for sample in self._samples], self._others)
                wrong = max(_or_one(difference(made, sample)) for sample in self._samples)
        except Exception as error:  # noqa: BLE001 - no compiler, no Triton, a fault in either: there are others
            self.failed(error)
            return
        self._took_s = self._clock() - self._began
        if wrong > TOLERANCE:
            self.words = f"compiled kernels are not used: they are off by {wrong:.1%} here"
            return
        self._made = made


def upgrade_of(network: Network, rows: int, inner: int) -> Upgrade:
    """What compiles better operations for *network* with feeds of *inner*, for steps of up to *rows* rows.

    Those are powers of two. Torch keeps eight versions of a function: the largest steps of very many rows do without.
    """
    layer = network.layers[0]
    with torch.inference_mode():
        samples = [
            sample_of(1 << power, network.heads, inner, layer.feed_norm, layer.head_norm, network.epsilon)
            for power in range(min(_VERSIONS, rows.bit_length()))
        ]
    return Upgrade(samples, network.operations)


def captured_seconds(call: Callable[[], object]) -> float:
    """How long *call* takes on the current CUDA device as part of a captured graph, where launches cost nothing."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        for _ in range(_CALLS):
            call()
    graph.replay()
    best = float("inf")
    for _ in range(_TRIES):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(_REPLAYS):
            graph.replay()
        end.record()
        end.synchronize()
        best = min(best, begin.elapsed_time(end) / 1000)
    return best / (_CALLS * _REPLAYS)


def forbid_compiling() -> None:
    """From now on what would have to be compiled anew is an error, rather than seconds in which nobody gets a token."""
    torch.compiler.set_stance("fail_on_recompile")


@contextlib.contextmanager
def _aside(device: torch.device) -> Iterator[None]:
    """On a stream of its own where the device has streams: nobody's step is waited for."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield


def _by_torch(function: Callable[..., Any]) -> Callable[..., Any]:
    import torch._inductor.config as settings

    settings.compile_threads = 1  # three small kernels need no pool of processes
    compiled: Callable[..., Any] = torch.compile(function, dynamic=False, fullgraph=True)
    return compiled


def _or_one(wrong: float) -> float:
    """NaN is as wrong as can be."""
    return wrong if wrong == wrong else 1.0


def _turn(
    qkv: torch.Tensor,
    queries: int,
    groups: int,
    width: int,
    cosines: torch.Tensor,
    sines: torch.Tensor,
    norm: torch.Tensor | None,
    epsilon: float,
) -> torch.Tensor:
    return Plain().turn(qkv, Heads(queries, groups, width), Rotation(cosines, sines, (cosines, sines)), norm, epsilon)


def _add_norm(
    rows: torch.Tensor, more: torch.Tensor, weight: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return Plain().add_norm(rows, more, weight, epsilon)


def _gate(gate_up: torch.Tensor) -> torch.Tensor:
    return Plain().gate(gate_up)
