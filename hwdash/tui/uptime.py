"""How a device stood its probes, in words: pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from hwdash.core.format import cut_percent, seconds_text
from hwdash.core.probe import ProbeOutcome, Uptime, UptimeHistory
from hwdash.core.text import sanitise_line
from hwdash.tui.gauge import Fact
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.strip import probe_mark

DAY_S = 86_400.0
NEWEST = 40
"""Probes that a strip shows, the newest."""


def up_text(uptime: Uptime, window_s: float = DAY_S) -> str:
    """``UP 99.86% of 24 h``; empty where nothing was probed in that window."""
    window = next((item for item in uptime.windows if abs(item.window_s - window_s) < 1.0), None)
    if window is None or window.up_ratio is None:
        return ""
    # Rounded down: what failed once was not up all the time.
    return f"UP {cut_percent(window.up_ratio, 2):g}% of {window_s / 3600:g} h"


def uptime_facts(history: UptimeHistory | None, key: str, glyphs: Glyphs) -> Iterator[Fact]:
    """What is to be said of the probes of the device *key*, a model at a time; nothing where there were none."""
    for uptime in history.uptimes if history is not None else ():
        last = uptime.last
        if uptime.device_key != key or last is None or history is None:
            continue
        parts = [part for part in (up_text(uptime), f"newest {last.outcome.value}") if part]
        parts += [] if last.ttft_s is None else [f"first token {seconds_text(last.ttft_s)}"]
        if uptime.drift is not None and abs(uptime.drift) >= 0.02:
            parts.append(f"{abs(uptime.drift):.0%} {'slower' if uptime.drift > 0 else 'faster'} than usual")
        style = {ProbeOutcome.OK: "text", ProbeOutcome.WRONG: "throttled", ProbeOutcome.FAILED: "lost"}[last.outcome]
        yield Fact("probes", f"{sanitise_line(uptime.model, 60)}: {', '.join(parts)}", style)
        found = [item for item in history.probes if (item.device_key, item.model) == (key, uptime.model)][-NEWEST:]
        if found:
            yield Fact("", "".join(probe_mark(item.outcome, glyphs)[0] for item in found), style)
        if last.error:
            yield Fact("", sanitise_line(last.error, 200), style)
