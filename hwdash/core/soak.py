"""What ``hwdash soak`` asks for and finds: how a device behaves under full load, and when and why it throttles."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from hwdash.core.inference import StageEvent


class SoakEnd(StrEnum):
    """Why a soak ended."""

    TIME = "time"
    THROTTLED = "throttled"
    TEMPERATURE = "temperature"
    LOST = "lost"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SoakRequest:
    """Load ``device`` for ``seconds`` with ``load`` (``decode`` or ``matmul``) of ``model``; empty: one that is there.

    It ends early at ``max_temperature_c`` (None: the device's own slowdown temperature), and, with ``until_throttled``,
    a while after it throttled.
    """

    device: str
    model: str
    load: str = "decode"
    seconds: float = 300.0
    until_throttled: bool = False
    max_temperature_c: float | None = None
    batch: int = 8
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class SoakStarted:
    """The load begins: what runs where, under which id the report will be known.

    ``unit`` is that of the rates (``tok/s``, ``FLOP/s``). ``max_temperature_c`` is the temperature that ends the soak,
    None where neither the request nor the device names one; ``tells_throttle``: the device's driver says when and why
    it throttles.
    """

    id: str
    started_at: datetime
    device: str
    device_key: str
    device_name: str
    model: str
    load: str
    unit: str
    dtype: str | None = None
    batch: int = 1
    max_temperature_c: float | None = None
    tells_throttle: bool = True


@dataclass(frozen=True, slots=True)
class SoakSample:
    """The device at ``at_s`` seconds of the soak; None what it does not tell. ``rate`` is tokens/s or FLOP/s.

    ``throttle`` are the reasons that held at that moment or since the sample before, ``duty`` the shares of that time,
    where the driver counts them; ``suspected`` is why the device is called throttled where no reason says so. ``watched``
    is false for a rate alone, without a reading of the device.
    """

    at_s: float
    rate: float | None = None
    temperature_c: float | None = None
    memory_temperature_c: float | None = None
    power_w: float | None = None
    clock_hz: float | None = None
    throttle: tuple[str, ...] = ()
    duty: tuple[tuple[str, float], ...] = ()
    suspected: str = ""
    watched: bool = True


@dataclass(frozen=True, slots=True)
class SoakPhase:
    """Means over a stretch of a soak, from ``from_s`` to ``to_s``."""

    from_s: float
    to_s: float
    rate: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    clock_hz: float | None = None


@dataclass(frozen=True, slots=True)
class ThrottleOnset:
    """The first time that the device throttled: when, why, and the phases before and after.

    Without ``reasons`` it is only ``suspected`` of that, for this cause."""

    at_s: float
    reasons: tuple[str, ...]
    before: SoakPhase
    after: SoakPhase | None = None
    suspected: str = ""


@dataclass(frozen=True, slots=True)
class SoakReport:
    """A finished soak. ``unit`` is that of the rates (``tok/s``, ``FLOP/s``); ``duty`` the share of its time in which
    each throttle reason held; ``steady`` its last part, once temperature and rate stood; ``verdict`` a sentence.

    ``samples`` are 3600 at most, spread evenly over those that were taken; all else was found with all of them.
    """

    id: str
    started_at: datetime
    device: str
    device_key: str
    device_name: str
    model: str
    load: str
    unit: str
    total_s: float
    end: SoakEnd
    samples: tuple[SoakSample, ...]
    duty: tuple[tuple[str, float], ...] = ()
    onset: ThrottleOnset | None = None
    start: SoakPhase | None = None
    steady: SoakPhase | None = None
    joules: float | None = None
    verdict: str = ""
    problem: str = ""
    dtype: str | None = None
    batch: int = 1
    max_temperature_c: float | None = None
    tells_throttle: bool = True


@dataclass(frozen=True, slots=True)
class SoakFinished:
    """The last event of a soak."""

    report: SoakReport


@dataclass(frozen=True, slots=True)
class SoakHistory:
    """Reports of earlier soaks, oldest first."""

    reports: tuple[SoakReport, ...]


SoakEvent: TypeAlias = StageEvent | SoakStarted | SoakSample | SoakFinished
"""What a client receives of a soak: stages, one `SoakStarted`, samples, one `SoakFinished` (or an error instead)."""
