"""Why a device stands where it stands, in short sentences with numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from hwdash.core.format import bytes_text, cut_percent, energy_text, rate_text, reading_text, seconds_text
from hwdash.core.health import HealthState, SuspicionKind
from hwdash.core.ranking import Expectation
from hwdash.core.snapshot import DeviceStatus
from hwdash.routing.estimate import Case, draw_w, free_bytes
from hwdash.routing.knowledge import Circumstance
from hwdash.routing.need import Need
from hwdash.routing.score import DOUBTED, UNMEASURED_CPU, weights_of
from hwdash.routing.throttling import throttled_share
from hwdash.routing.trait import trait_of

UPTIME_TOLD_BELOW = 0.99
"""An uptime over 24 h is told from below this share on."""


def why(case: Case, status: DeviceStatus, expected: Expectation) -> tuple[str, ...]:
    """Sentences about the device: what to expect first, then each part in the order of its weight."""
    circumstance = case.knowledge.of(status.device.key)
    trait = trait_of(status.device)
    need = case.need(free_bytes(status), trait, circumstance)
    slower = case.stretch(status) if expected.ttft_s is not None or expected.tokens_per_s is not None else 1.0
    texts: Mapping[str, str] = {
        "throttle": throttle_words(status),
        "headroom": _headroom_words(status),
        "load": _load_words(status, circumstance),
        "energy": _energy_words(status, circumstance, expected),
        "memory": _memory_words(status, need),
        "power": _power_words(status) if case.requirements.prefer_low_power else "",
    }
    ordered = [texts[name] for name, weight in weights_of(case.requirements).items() if weight and texts.get(name)]
    return (
        speed_words(case, status, expected, need, slower),
        *(
            [f"its score ×{UNMEASURED_CPU:g}: a CPU counts little until it was measured"]
            if trait.build.host and not expected.measured
            else ()
        ),
        *([f"comes last: {circumstance.held}"] if circumstance.held else ()),
        *_probe_words(status, circumstance),
        *([_slower_words(status, slower)] if slower > 1.0 else ()),
        *([_answer_words(case, expected)] if expected.answer_s is not None else ()),
        *ordered,
    )


def speed_words(case: Case, status: DeviceStatus, expected: Expectation, need: Need | None, slower: float) -> str:
    """Time to first token and tokens per second, measured or estimated and from what, before they became *slower*."""
    rate = None if expected.tokens_per_s is None else rate_text(expected.tokens_per_s * slower)
    first = None if expected.ttft_s is None else seconds_text(expected.ttft_s / slower)
    if expected.measured:
        figures = ", ".join(text for text in (f"TTFT {first}" if first else "", rate) if text)
        spread = "" if expected.spread is None else f" ±{expected.spread * 100:.0f} %"
        answers = "the last answer" if expected.samples == 1 else f"{expected.samples} answers"
        return f"{figures} over {answers}{spread}"
    if first is None or rate is None:
        return "never measured with this model; its speed is not known" if case.knowledge.model else "not measured yet"
    trait = trait_of(status.device)
    line = None if need is None else case.roofline(trait.build, need)
    basis = ""
    if line is not None and case.knowledge.shape is not None:
        assumed = "an assumed " if trait.build.assumed else ""
        speed = f"{line.read_bytes / 1e9:.2f} GB at {assumed}{_bandwidth_text(trait.build.bandwidth)}"
        basis = f" ({speed}, {case.knowledge.shape.layers} layers)"
    return f"estimated: {first} to first token, {rate}{basis}"


def _probe_words(status: DeviceStatus, circumstance: Circumstance) -> list[str]:
    """What its probes say against the device."""
    texts = [f"its score ×{DOUBTED:g}: {circumstance.doubt}"] if circumstance.doubt else []
    if circumstance.up_ratio is not None and circumstance.up_ratio < UPTIME_TOLD_BELOW:
        # Cut, not rounded: 98.96 % is not yet 99.
        texts.append(f"{cut_percent(circumstance.up_ratio, 1):.1f} % of its probes of 24 h were well")
    if circumstance.drift is not None and SuspicionKind.PROBES not in status.health.suspicions:
        texts.append(f"its newest probes took {circumstance.drift * 100:.0f} % longer than at their best")
    return texts


def _bandwidth_text(bytes_per_s: float) -> str:
    return f"{bytes_per_s / 1e12:.1f} TB/s" if bytes_per_s >= 1e12 else f"{bytes_per_s / 1e9:.0f} GB/s"


def _slower_words(status: DeviceStatus, slower: float) -> str:
    now, full = status.number("clock_hz") or 0.0, status.device.limits.clock_hz or 0.0
    return f"expected {slower:.2f} times as slow now: clock {now / 1e6:.0f} of {full / 1e6:.0f} MHz"


def _answer_words(case: Case, expected: Expectation) -> str:
    parts = []
    if expected.wait_s:
        parts.append(f"{seconds_text(expected.wait_s)} of waiting")
    if expected.cold_start_s:
        parts.append(f"{seconds_text(expected.cold_start_s)} of cold start")
    text = f"{case.knowledge.answer_tokens} tokens in {seconds_text(expected.answer_s or 0.0)}"
    return f"{text} with {' and '.join(parts)}" if parts else text


def throttle_words(status: DeviceStatus) -> str:
    """What holds the device back, by its health or its driver; empty when nothing does."""
    health = status.health
    if health.state is HealthState.THROTTLED:
        state = "suspected of throttling" if health.suspected else "throttled"
        return f"{state}: {'; '.join(health.reasons)}" if health.reasons else state
    share = throttled_share(status)
    if not share:
        return "; ".join(health.reasons)
    limiting = status.limiting
    if not limiting:
        return "; ".join(health.reasons) or "at or above its slowdown temperature"
    duties = [
        activity.words if activity.duty is None else f"{activity.words} for {activity.duty:.0%} of the time"
        for activity in limiting
    ]
    return f"limited: {', '.join(duties)}"


def _headroom_words(status: DeviceStatus) -> str:
    margin = status.number("temperature_margin_c")
    watts = status.number("power_w")
    limit = status.device.limits.power_w
    texts = []
    if margin is not None:
        texts.append(f"{margin:.0f} °C to slowdown" if margin >= 0 else f"{-margin:.0f} °C above slowdown")
    if watts is not None:
        of = f" of {reading_text('power_w', limit)}" if limit is not None else ""
        texts.append(f"{reading_text('power_w', watts)}{of}")
    return ", ".join(texts)


def _load_words(status: DeviceStatus, circumstance: Circumstance) -> str:
    busy = status.number("utilization")
    texts = ["load unknown" if busy is None else f"{busy:.0%} busy"]
    if circumstance.running or circumstance.waiting:
        texts.append(f"{circumstance.running} running and {circumstance.waiting} waiting, {circumstance.limit} at once")
    if circumstance.limit_why and not circumstance.held:
        texts.append(circumstance.limit_why)
    return "; ".join(texts)


def _energy_words(status: DeviceStatus, circumstance: Circumstance, expected: Expectation) -> str:
    joules = expected.joules_per_token
    if joules is None:
        return ""
    pace = circumstance.pace
    if pace is not None and pace.joules_per_token is not None:
        return f"{energy_text(joules)} a token"
    return f"about {energy_text(joules)} a token, estimated"


def _memory_words(status: DeviceStatus, need: Need | None) -> str:
    free = free_bytes(status)
    text = "free memory unknown" if free is None else f"{bytes_text(free)} free"
    if need is None:
        return text
    if not need.weight_bytes:
        return f"{text}, the model is loaded"
    smaller = f" in {need.dtype}, a smaller precision than usual here" if need.smaller else ""
    return f"{text}, the model needs {bytes_text(need.total_bytes)}{smaller}"


def _power_words(status: DeviceStatus) -> str:
    watts = draw_w(status)
    if watts is None:
        return "what it may draw is not known"
    return (
        f"may draw {reading_text('power_w', watts)}"
        if status.device.limits.power_w is not None
        else (f"draws {reading_text('power_w', watts)} now, without a known limit")
    )
