"""The small operations of a layer as three kernels of our own, for NVIDIA GPUs and bf16.

Between two products a token's row is a few kilobytes: what torch's several kernels cost there is their launches. These
are compiled by NVRTC, which comes with torch's CUDA builds, so that nothing needs to be installed; where that does not
work, or a kernel does not compute what torch computes, `fused` says so and torch's operations stay.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import torch

from hwdash.core.text import sanitise_line
from hwdash.engine.worker.likeness import TOLERANCE, difference, sample_of
from hwdash.engine.worker.operation import Heads, Operations, Plain, Rotation

_THREADS = 512
_WARPS = 4
_MOST_HIDDEN = 12288
"""The widest row that shared memory holds as float32."""
_VECTOR = 8
"""Numbers of bf16 that one load takes."""
_log = logging.getLogger(__name__)

_SOURCE = r"""
typedef unsigned short half_t;
typedef unsigned int word_t;

__device__ __forceinline__ float read(half_t bits) { return __uint_as_float(((word_t)bits) << 16); }

__device__ __forceinline__ half_t round_to(float value) {
    word_t bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;  // NaN stays NaN
    return (half_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

struct __align__(16) Eight { half_t part[8]; };

extern "C" __global__ void add_norm(
    const half_t* rows, const half_t* more, const half_t* weight, half_t* sum, half_t* normed, int hidden, double epsilon) {
    extern __shared__ float held[];
    __shared__ float sums[32];
    const long long base = (long long)blockIdx.x * hidden;
    float square = 0.f;
    for (int at = threadIdx.x * 8; at < hidden; at += blockDim.x * 8) {
        Eight a = *(const Eight*)(rows + base + at), b = *(const Eight*)(more + base + at), out;
        #pragma unroll
        for (int i = 0; i < 8; i++) {
            out.part[i] = round_to(read(a.part[i]) + read(b.part[i]));
            float value = read(out.part[i]);
            held[at + i] = value;
            square += value * value;
        }
        *(Eight*)(sum + base + at) = out;
    }
    for (int step = 16; step; step >>= 1) square += __shfl_xor_sync(0xffffffffu, square, step);
    if ((threadIdx.x & 31) == 0) sums[threadIdx.x >> 5] = square;
    __syncthreads();
    float total = 0.f;
    for (int warp = 0; warp < (blockDim.x >> 5); warp++) total += sums[warp];
    const float factor = rsqrtf(total / hidden + (float)epsilon);
    for (int at = threadIdx.x * 8; at < hidden; at += blockDim.x * 8) {
        Eight w = *(const Eight*)(weight + at), out;
        #pragma unroll
        for (int i = 0; i < 8; i++) out.part[i] = round_to(held[at + i] * factor * read(w.part[i]));
        *(Eight*)(normed + base + at) = out;
    }
}

extern "C" __global__ void gate(const half_t* gate_up, half_t* out, int inner) {
    const int at = (blockIdx.x * blockDim.x + threadIdx.x) * 8;
    if (at >= inner) return;
    const long long row = blockIdx.y;
    Eight a = *(const Eight*)(gate_up + row * 2 * inner + at);
    Eight b = *(const Eight*)(gate_up + row * 2 * inner + inner + at);
    Eight made;
    #pragma unroll
    for (int i = 0; i < 8; i++) {
        float x = read(a.part[i]);
        made.part[i] = round_to(read(round_to(x / (1.f + __expf(-x)))) * read(b.part[i]));
    }
    *(Eight*)(out + row * inner + at) = made;
}

extern "C" __global__ void turn(
    const half_t* qkv, const float* cosines, const float* sines, const half_t* norm, half_t* out,
    int heads, int turned, int width, int normed, double epsilon) {
    const int head = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (head >= heads) return;
    const long long row = blockIdx.y;
    const int half = width >> 1;
    const half_t* from = qkv + (row * heads + head) * width;
    half_t* to = out + (row * heads + head) * width;
    if (head >= turned) {
        for (int i = lane; i < width; i += 32) to[i] = from[i];
        return;
    }
    float factor = 1.f;
    if (normed) {
        float square = 0.f;
        for (int i = lane; i < width; i += 32) square += read(from[i]) * read(from[i]);
        for (int step = 16; step; step >>= 1) square += __shfl_xor_sync(0xffffffffu, square, step);
        factor = rsqrtf(square / width + (float)epsilon);
    }
    for (int i = lane; i < half; i += 32) {
        float x = read(from[i]), y = read(from[i + half]);
        if (normed) {
            x = read(round_to(read(round_to(x * factor)) * read(norm[head * width + i])));
            y = read(round_to(read(round_to(y * factor)) * read(norm[head * width + i + half])));
        }
        const float c = cosines[row * half + i], s = sines[row * half + i];
        to[i] = round_to(x * c - y * s);
        to[i + half] = round_to(y * c + x * s);
    }
}
"""


class Fused:
    """`Operations` by our own kernels. Rows must be contiguous, bf16, and a multiple of eight numbers wide."""

    def __init__(self, device: torch.device) -> None:
        compile_kernel: Any = torch.cuda._compile_kernel  # noqa: SLF001 - no public way without a compiler
        with torch.cuda.device(device):
            self._add_norm = compile_kernel(_SOURCE, "add_norm")
            self._gate = compile_kernel(_SOURCE, "gate")
            self._turn = compile_kernel(_SOURCE, "turn")

    def rotation(self, cosines: torch.Tensor, sines: torch.Tensor, heads: Heads, dtype: torch.dtype) -> Rotation:
        """The angles' cosines and sines as they are."""
        return Rotation(cosines.contiguous(), sines.contiguous())

    def turn(
        self, qkv: torch.Tensor, heads: Heads, rotation: Rotation, norm: torch.Tensor | None, epsilon: float
    ) -> torch.Tensor:
        """The turned heads, ``[T, all heads, width]``."""
        rows = qkv.shape[0]
        out = torch.empty((rows, heads.all, heads.width), dtype=qkv.dtype, device=qkv.device)
        scale = qkv if norm is None else norm
        self._turn(
            grid=(-(-heads.all // _WARPS), rows, 1),
            block=(32 * _WARPS, 1, 1),
            args=[
                qkv.contiguous(), rotation.cosines, rotation.sines, scale, out,
                heads.all, heads.turned, heads.width, int(norm is not None), float(epsilon),
            ],
        )  # fmt: skip
        return out

    def add_norm(
        self, rows: torch.Tensor, more: torch.Tensor, weight: torch.Tensor, epsilon: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum and its norm."""
        total, normed = torch.empty_like(rows), torch.empty_like(rows)
        hidden = rows.shape[-1]
        self._add_norm(
            grid=(rows.shape[0], 1, 1),
            block=(_THREADS, 1, 1),
            args=[rows, more.contiguous(), weight, total, normed, hidden, float(epsilon)],
            shared_mem=4 * hidden,
        )
        return total, normed

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """``silu(gate) * up``."""
        rows, inner = gate_up.shape[0], gate_up.shape[1] // 2
        out = torch.empty((rows, inner), dtype=gate_up.dtype, device=gate_up.device)
        blocks = -(-inner // (_VECTOR * 256))
        self._gate(grid=(blocks, rows, 1), block=(256, 1, 1), args=[gate_up.contiguous(), out, inner])
        return out


def fused(device: torch.device, dtype: torch.dtype, hidden: int, inner: int, heads: Heads) -> tuple[Operations, str]:
    """The operations for rows of *hidden* numbers and feeds of *inner*, and in words why these."""
    if device.type != "cuda" or torch.version.cuda is None or dtype is not torch.bfloat16:
        return Plain(), "torch's own small operations: there are fused ones for NVIDIA GPUs and bf16"
    if hidden % _VECTOR or inner % _VECTOR or hidden > _MOST_HIDDEN or heads.width % 2:
        return Plain(), f"torch's own small operations: rows of {hidden} and {inner} numbers do not suit the fused ones"
    try:
        made = Fused(device)
        with torch.inference_mode():
            wrong = _difference(made, device, hidden, inner, heads)
    except Exception as error:  # noqa: BLE001 - whatever keeps them from being compiled or run, there are others
        _log.warning("no fused operations", exc_info=True)
        reason = sanitise_line(str(error), 120) or type(error).__name__
        return Plain(), f"torch's own small operations: the fused ones cannot be compiled here ({reason})"
    if not wrong <= TOLERANCE:
        return Plain(), f"torch's own small operations: the fused ones are off by {wrong:.1%} here"
    return made, "norms, rotations and gates fused into kernels compiled by NVRTC"


def _difference(made: Fused, device: torch.device, hidden: int, inner: int, heads: Heads) -> float:
    """How far the fused operations are from torch's own, with normed heads and without."""
    generator = torch.Generator(device).manual_seed(2)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=torch.float32).to(torch.bfloat16)

    weight, norm = random(hidden), random(heads.turned, heads.width)
    wrong = [difference(made, sample_of(3, heads, inner, weight, kind, 1e-6)) for kind in (None, norm)]
    return math.nan if any(map(math.isnan, wrong)) else max(wrong)
