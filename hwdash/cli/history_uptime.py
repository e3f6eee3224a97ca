"""``hwdash history uptime``: how devices stood their probes."""

from __future__ import annotations

import sys

from hwdash.cli.output import csv_text, table_text
from hwdash.core.format import cut_percent, duration_text, seconds_text
from hwdash.core.probe import DRIFT_FROM, ProbeOutcome, ProbeResult, Uptime, UptimeHistory, UptimeWindow
from hwdash.core.text import sanitise_line

_HEADER = ("WINDOW", "PROBES", "FAILED", "WRONG", "UP", "TTFT P50", "P99", "ITL P50", "P99")
_WIDTH = 80
_STRIP = 66
_UNICODE = {"well": "▂", "slow": "▅", "wrong": "?", "failed": "×"}
_ASCII = {"well": ".", "slow": "-", "wrong": "?", "failed": "x"}
_NONE = "-"


def uptime_text(history: UptimeHistory) -> str:
    """A block per device and model, no wider than 80 columns: the last probe, the windows, a strip of the newest probes."""
    window = duration_text((history.until - history.since).total_seconds())
    if not history.uptimes:
        return "no probes yet: a loaded model is probed while its device is idle; send one with: hwdash probe"
    marks = _marks()
    blocks = [_block(item, history, marks) for item in history.uptimes]
    words = ("well", f"over {DRIFT_FROM * 100:.0f} % slower", "wrong tokens", "failed")
    legend = ", ".join(f"{mark} {word}" for mark, word in zip(marks.values(), words, strict=True))
    return "\n\n".join([*blocks, f"newest: probes of the last {window}, oldest first\n  {legend}"])


def _block(item: Uptime, history: UptimeHistory, marks: dict[str, str]) -> str:
    model = sanitise_line(item.model, 500)
    lines = [_cut(f"{item.device}  {model}")]
    if item.last is not None:
        lines.append(_cut(f"  last    {item.last.at.astimezone():%Y-%m-%d %H:%M:%S}  {_outcome(item.last)}"))
    if item.baseline_itl_s is not None:
        drift = "" if item.drift is None else f", the newest {item.drift * 100:+.0f} %"
        lines.append(f"  at best {seconds_text(item.baseline_itl_s)} a token{drift}")
    table = table_text(_HEADER, [_row(window) for window in item.windows], right=frozenset(range(1, len(_HEADER))))
    lines += [f"  {line}" for line in table.splitlines()]
    found = [one for one in history.probes if (one.device_key, one.model) == (item.device_key, item.model)]
    if found:
        lines.append("  newest  " + "".join(marks[_kind(one)] for one in found[-_STRIP:]))
    return "\n".join(lines)


def _outcome(last: ProbeResult) -> str:
    if last.outcome is ProbeOutcome.FAILED:
        return f"failed: {sanitise_line(last.error or 'no reason told', 200)}"
    parts = [last.outcome.value if last.outcome is ProbeOutcome.OK else "wrong tokens"]
    parts += [f"TTFT {seconds_text(last.ttft_s)}"] if last.ttft_s is not None else []
    parts += [f"ITL {seconds_text(last.itl_s)}"] if last.itl_s is not None else []
    return ", ".join(parts)


def _row(window: UptimeWindow) -> tuple[str, ...]:
    times = (window.ttft_p50_s, window.ttft_p99_s, window.itl_p50_s, window.itl_p99_s)
    return (
        duration_text(window.window_s) if window.window_s != 86_400.0 else "24 h",
        str(window.probes),
        str(window.failed),
        str(window.wrong),
        _NONE if window.up_ratio is None else up_text(window.up_ratio),
        *(_NONE if value is None else seconds_text(value) for value in times),
    )


def up_text(ratio: float) -> str:
    """A share of good probes in per cent, cut and not rounded: only 100 % is 100 %."""
    return "100 %" if ratio >= 1.0 else f"{cut_percent(ratio, 2):.2f} %"


def _kind(result: ProbeResult) -> str:
    if result.outcome is ProbeOutcome.OK:
        return "slow" if result.drift is not None and result.drift > DRIFT_FROM else "well"
    return result.outcome.value


def _marks() -> dict[str, str]:
    """Characters that stdout can write."""
    try:
        "".join(_UNICODE.values()).encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return _ASCII
    return _UNICODE


def _cut(line: str) -> str:
    if len(line) <= _WIDTH:
        return line
    return line[: _WIDTH - 3] + "..."


def uptime_csv(history: UptimeHistory) -> str:
    """One row per probe, times in UTC and seconds."""
    names = ("at", "device", "device_key", "model", "dtype", "outcome", "ttft_s", "itl_s", "total_s", "tokens")
    return csv_text(
        [*names, "digest", "expected", "drift", "error"],
        [
            [
                one.at.isoformat(),
                one.device,
                one.device_key,
                one.model,
                one.dtype,
                one.outcome.value,
                one.ttft_s,
                one.itl_s,
                one.total_s,
                one.tokens,
                one.digest,
                one.expected,
                one.drift,
                None if one.error is None else sanitise_line(one.error, 500),
            ]
            for one in history.probes
        ],
    )
