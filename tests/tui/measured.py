"""Reports of benches and soaks, and probes, for the dashboard's tests and pictures, all with fixed times."""

from __future__ import annotations

from datetime import timedelta

from hwdash.core.bench import BenchComparison, BenchReport, DecodeFigure, DtypeFigures, PrefillFigure
from hwdash.core.inference import Conditions
from hwdash.core.measurement import LoadedModel
from hwdash.core.probe import ProbeOutcome, ProbeResult, Uptime, UptimeHistory, UptimeWindow
from hwdash.core.soak import SoakEnd, SoakReport, SoakSample
from tests.tui.sample import START, gpu

MODEL = "synthetic:llama-3.1-8b"


def figures(dtype: str, speed: float, problem: str = "") -> DtypeFigures:
    """*speed* tokens/s at batch 1, less than as many times more with each doubling."""
    decode = tuple(
        DecodeFigure(
            batch,
            batch**0.1 / speed,
            batch**0.1 / speed * 1.15,
            speed * batch**0.9,
            0.55 / batch**0.1,
            2.4 / batch**0.8,
            0.5 / batch**0.8,
        )
        for batch in (1, 4, 16, 32)
    )
    prefill = tuple(PrefillFigure(size, 0.008 + size / 20000, 20000.0) for size in (32, 128, 512, 2048))
    loaded = LoadedModel(dtype, 8_000_000_000, 16 * 2**30, 8192, "graph", (), None, 0.2, 3.1, 5.4, 0.04)
    throttle = Conditions(("power_cap",)) if dtype == "fp8" else Conditions()
    return DtypeFigures(dtype, loaded, prefill, decode, throttle, problem)


def bench(days_ago: int = 0, device: int = 0, model: str = MODEL) -> BenchReport:
    """A bench of two precisions, slower than a week before."""
    words = "bf16, tokens/s at batch 1: 132, 12 % slower than its baseline of last week (150, 4 runs)"
    comparison = BenchComparison("bf16", "tokens/s at batch 1", 132.0, 150.0, 0.88, 4, START - timedelta(days=7), words)
    return BenchReport(
        f"bench-{days_ago}",
        START - timedelta(days=days_ago),
        182.0,
        f"gpu{device}",
        gpu(device).key,
        gpu(device).name,
        model,
        "device",
        3.9e12,
        (("driver", "580.159.04"), ("torch", "2.11.0")),
        (figures("bf16", 132.0 + days_ago), figures("fp8", 210.0), DtypeFigures("fp4", problem="not on this device")),
        (comparison,),
    )


def soak(*, tells: bool = True) -> SoakReport:
    """Five minutes of full load in which the device heats up and throttles from 120 s on."""
    samples = tuple(
        SoakSample(
            float(at),
            1200.0 if at < 120 else 1010.0,
            45.0 + min(at, 160) / 4 if tells else None,
            None,
            690.0 if tells else None,
            1.98e9 if at < 120 else 1.62e9,
            ("thermal_sw",) if at >= 120 else (),
        )
        for at in range(0, 300, 2)
    )
    verdict = "throttled after 2 min for heat: 1200 to 1010 tok/s (-16 %), steady at 85 °C"
    return SoakReport(
        "soak-1",
        START,
        "gpu0",
        gpu(0).key,
        gpu(0).name,
        MODEL,
        "decode",
        "tok/s",
        300.0,
        SoakEnd.TIME,
        samples,
        verdict=verdict,
    )


def probe(minutes_ago: float, outcome: ProbeOutcome = ProbeOutcome.OK, error: str | None = None) -> ProbeResult:
    """A probe of gpu0."""
    at = START - timedelta(minutes=minutes_ago)
    good = outcome is not ProbeOutcome.FAILED
    return ProbeResult(
        at, "gpu0", gpu(0).key, MODEL, outcome, 0.021 if good else None, 0.0075 if good else None, error=error
    )


def uptime() -> UptimeHistory:
    """A day of probes of gpu0: one failed, one wrong."""
    odd = {7: ProbeOutcome.FAILED, 4: ProbeOutcome.WRONG}
    probes = tuple(probe(minute, odd.get(minute, ProbeOutcome.OK)) for minute in range(14, -1, -1))
    windows = (
        UptimeWindow(3600.0, 60, 1, 1, 58 / 60, 0.021, 0.03, 0.0075, 0.009),
        UptimeWindow(86400.0, 1440, 1, 1, 1438 / 1440, 0.021, 0.03, 0.0075, 0.009),
        UptimeWindow(604800.0, 9000, 3, 1, 8996 / 9000, 0.021, 0.03, 0.0075, 0.009),
    )
    found = Uptime("gpu0", gpu(0).key, MODEL, windows, probes[-1], 0.007, 0.07)
    return UptimeHistory(START - timedelta(days=1), START, (found,), probes)
