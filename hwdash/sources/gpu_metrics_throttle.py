"""AMD's throttlers in the vendor-neutral vocabulary.

Bit numbers after the Linux header drivers/gpu/drm/amd/pm/swsmu/inc/amdgpu_smu.h, ``SMU_THROTTLER_*_BIT``; counters after
rocm_smi.h, "violation status": the share of time is the counter's growth over that of the accumulation counter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from hwdash.core.throttle import ThrottleReason
from hwdash.sources.gpu_metrics import GpuMetrics
from hwdash.sources.rate import unwrapped_growth

_U32 = 2**32

_HOTSPOT = 36
_HOT_WITHIN_C = 5.0
"""RDNA 3 raises the hotspot bit nearly always; from this many °C below the critical temperature on it is believed."""

_REASONS: Mapping[int, ThrottleReason] = MappingProxyType(
    dict.fromkeys(range(8), ThrottleReason.POWER_CAP)
    | dict.fromkeys(range(16, 24), ThrottleReason.CURRENT_LIMIT)
    | dict.fromkeys((32, 33, 35, _HOTSPOT, 37, 38, 39, 42, 43), ThrottleReason.THERMAL_SW)
    | dict.fromkeys((34, 40, 41), ThrottleReason.MEMORY_THERMAL)
    | dict.fromkeys((44, 45), ThrottleReason.THERMAL_HW)
    | dict.fromkeys((46, 47), ThrottleReason.PROCHOT)
    | {57: ThrottleReason.RELIABILITY}
)
"""Package power; TDC, EDC and APCC; temperatures of chip, regulators and liquid; of memory; VRHOT; PROCHOT; FIT."""

_PPM = 1 << 56
"""A throttler that has a name and no public explanation."""

_COUNTERS: Mapping[str, ThrottleReason] = MappingProxyType(
    {
        "prochot": ThrottleReason.PROCHOT,
        "ppt": ThrottleReason.POWER_CAP,
        "socket_thm": ThrottleReason.THERMAL_SW,
        "vr_thm": ThrottleReason.THERMAL_HW,
        "hbm_thm": ThrottleReason.MEMORY_THERMAL,
        "spl": ThrottleReason.POWER_CAP,
        "fppt": ThrottleReason.POWER_CAP,
        "sppt": ThrottleReason.POWER_CAP,
        "thm_core": ThrottleReason.THERMAL_SW,
        "thm_gfx": ThrottleReason.THERMAL_SW,
        "thm_soc": ThrottleReason.THERMAL_SW,
    }
)


@dataclass(frozen=True, slots=True)
class Throttling:
    """What a card tells of its throttlers, in the terms of `hwdash.core.sample.Sample`."""

    flags: frozenset[ThrottleReason] | None = None
    known: frozenset[ThrottleReason] = frozenset()
    seconds: Mapping[ThrottleReason, float] = field(default_factory=lambda: MappingProxyType({}))
    unknown: str | None = None


def flags_of(
    bits: int, *, hotspot_c: float | None = None, critical_c: float | None = None
) -> tuple[frozenset[ThrottleReason], str | None]:
    """The reasons in ``indep_throttle_status``, and the bits without a word for them as text such as ``0x400``.

    The bit of the hotspot counts only when *hotspot_c* is near *critical_c*, or either is not known.
    """
    if hotspot_c is not None and critical_c is not None and hotspot_c < critical_c - _HOT_WITHIN_C:
        bits &= ~(1 << _HOTSPOT)
    reasons = {reason for bit, reason in _REASONS.items() if bits >> bit & 1}
    rest = bits & ~sum(1 << bit for bit in _REASONS)
    words = ["PPM"] if rest & _PPM else []
    if rest & ~_PPM:
        words.append(f"{rest & ~_PPM:#x}")
    if words:
        reasons.add(ThrottleReason.UNKNOWN)
    return frozenset(reasons), " ".join(words) or None


@dataclass(frozen=True, slots=True)
class _Count:
    """Where the counters stood at a moment of the monotonic clock; ``cycles`` None where nothing counts the time."""

    at_s: float
    cycles: int | None
    residencies: Mapping[str, int]

    def growth(self, later: _Count) -> Mapping[str, float]:
        """How much each counter grew until *later*, without those that fell: the card was reset."""
        return {
            name: growth
            for name, value in later.residencies.items()
            if name in self.residencies
            and (growth := unwrapped_growth(self.residencies[name], value, _U32)) is not None
        }


class ThrottleMeter:
    """The throttling of one card over time. For use by one thread."""

    def __init__(self) -> None:
        self._last: _Count | None = None
        self._seconds: dict[ThrottleReason, float] = {}

    def update(self, metrics: GpuMetrics, at_s: float, *, critical_c: float | None = None) -> Throttling:
        """The throttling as of *metrics*, read at *at_s* on the monotonic clock.

        *critical_c* is the temperature at which the hotspot is throttled. Seconds of counters start at the first table.
        """
        if metrics.residencies:
            return self._by_counters(_Count(at_s, metrics.accumulation, metrics.residencies))
        self._last = None
        if metrics.throttle_bits is not None:
            hotspot_c = metrics.hotspot_temperature_c if metrics.version[0] == 1 else None
            flags, unknown = flags_of(metrics.throttle_bits, hotspot_c=hotspot_c, critical_c=critical_c)
            return Throttling(flags, frozenset(_REASONS.values()), unknown=unknown)
        if bits := metrics.asic_throttle_bits:
            return Throttling(frozenset({ThrottleReason.UNKNOWN}), unknown=f"{bits:#x} of this chip")
        # 0 in a chip's own bits: nothing limits it where the driver fills them in, and nobody knows where it does not.
        return Throttling()

    def _by_counters(self, now: _Count) -> Throttling:
        known = frozenset(_COUNTERS[name] for name in now.residencies)
        before = self._last or now
        if now.cycles is None or before.cycles is None:
            # Format 3 does not say in what unit it counts: a counter that moved was in force at some time.
            self._last = now
            moved = frozenset(_COUNTERS[name] for name, growth in before.growth(now).items() if growth)
            return Throttling(moved if now.cycles is None else None, known)
        cycles = unwrapped_growth(before.cycles, now.cycles, _U32)
        if cycles != 0 or self._last is None:
            self._last = now
        if cycles:
            for name, growth in before.growth(now).items():
                share = min(1.0, growth / cycles)
                reason = _COUNTERS[name]
                self._seconds[reason] = self._seconds.get(reason, 0.0) + share * max(0.0, now.at_s - before.at_s)
        return Throttling(None, known, {reason: self._seconds.get(reason, 0.0) for reason in known})
