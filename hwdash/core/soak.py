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
    """Load ``device`` for ``seconds`` with ``load`` (``decode`` or ``matmul``).

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
class SoakSample:
    """The device at ``at_s`` seconds of the soak; None what it does not tell. ``rate`` is tokens/s or FLOP/s."""

    at_s: float
    rate: float | None = None
    temperature_c: float | None = None
    memory_temperature_c: float | None = None
    power_w: float | None = None
    clock_hz: float | None = None
    throttle: tuple[str, ...] = ()


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
    """The first time that the device throttled: when, why, and the phases before and after."""

    at_s: float
    reasons: tuple[str, ...]
    before: SoakPhase
    after: SoakPhase | None = None


@dataclass(frozen=True, slots=True)
class SoakReport:
    """A finished soak. ``unit`` is that of the rates (``tok/s``, ``FLOP/s``); ``duty`` the share of its time in which
    each throttle reason held; ``steady`` its last part, once temperature and rate stood; ``verdict`` a sentence."""

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


@dataclass(frozen=True, slots=True)
class SoakFinished:
    """The last event of a soak."""

    report: SoakReport


SoakEvent: TypeAlias = StageEvent | SoakSample | SoakFinished
"""What a client receives of a soak: stages, samples, one `SoakFinished` (or an error instead of it)."""
