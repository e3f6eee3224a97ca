"""Trials of precisions: how fast a device really is in each one that it claims."""

from __future__ import annotations

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
class DeviceTrial:
    """All precisions of a device, tried once with this driver and torch."""

    device_key: str
    driver: str
    torch: str
    at: datetime
    dtypes: tuple[DtypeTrial, ...]
