"""Trials of precisions: how fast a device really is in each one that it claims."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class DtypeTrial:
    """A small product of matrices, and one of a matrix and a vector, in ``dtype``.

    ``flops_per_s`` is of the first, ``bytes_per_s`` the rate at which the second read its weights. ``emulated``: slower
    than fp32 in that second one, which is what a token costs. ``problem`` is why there is no figure.
    """

    dtype: str
    flops_per_s: float | None = None
    bytes_per_s: float | None = None
    weights_per_s: float | None = None
    emulated: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class DtypeSpeed:
    """What a trial of ``dtype`` came to: ``relative`` times the weights per second that are read in fp32."""

    dtype: str
    relative: float
    emulated: bool = False

    def __str__(self) -> str:
        return f"{self.dtype} (emulated: {self.relative:.2g}x fp32)" if self.emulated else self.dtype


@dataclass(frozen=True, slots=True)
class DeviceTrial:
    """All precisions of a device, tried once with this driver and torch (the installed version of each)."""

    device_key: str
    driver: str
    torch: str
    at: datetime
    dtypes: tuple[DtypeTrial, ...]

    @property
    def speeds(self) -> tuple[DtypeSpeed, ...]:
        """How fast each precision is beside fp32, for those that have a figure; empty where fp32 has none."""
        base = next((trial.weights_per_s for trial in self.dtypes if trial.dtype == "fp32"), None)
        if not base:
            return ()
        return tuple(
            DtypeSpeed(trial.dtype, round(trial.weights_per_s / base, 3), trial.emulated)
            for trial in self.dtypes
            if trial.weights_per_s is not None
        )


def dtype_words(dtypes: Iterable[str], tried: Iterable[DtypeSpeed]) -> str:
    """*dtypes* for people, those that *tried* found emulated marked so."""
    speeds = {speed.dtype: speed for speed in tried}
    return ", ".join(str(speeds.get(dtype, dtype)) for dtype in dtypes)
