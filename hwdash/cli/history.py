"""``hwdash history``: what SQLite holds."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from hwdash.cli.history_event import events_csv, events_text
from hwdash.cli.history_metric import metric_csv, metric_text
from hwdash.cli.history_uptime import uptime_csv, uptime_text
from hwdash.cli.output import csv_text, print_json, table_text
from hwdash.cli.settings import with_client
from hwdash.client.client import Client
from hwdash.core.duration import parse_duration
from hwdash.core.errors import UsageError
from hwdash.core.event import EventKind, Severity
from hwdash.core.format import duration_text, seconds_text
from hwdash.core.history import EventHistory, LatencyBucket, LatencyHistory, Percentiles, ThrottledPeriod
from hwdash.core.wire import to_wire

H = TypeVar("H")

_MOST_EVENTS = 10_000


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add ``history``."""
    parser = command("history", "what SQLite holds: latency, metrics, events, uptime")
    parser.add_argument(
        "what",
        choices=["latency", "metrics", "events", "uptime"],
        help="latency: TTFT, ITL and total of the prompts; metrics: one --metric over time; "
        "events: changes of health, faults, alerts; uptime: how devices stood their probes",
    )
    parser.add_argument("--device", metavar="ID", help="one device (id or key); default all")
    parser.add_argument("--since", metavar="TIME", help="how far back: 30s, 5m, 1h, 7d (default 1h; of uptime 24h)")
    parser.add_argument("--metric", metavar="NAME", help="a metric as in `hwdash devices --json`: power_w, clock_hz")
    parser.add_argument("--kind", choices=[kind.value for kind in EventKind], help="events of this kind only")
    parser.add_argument(
        "--severity", choices=[severity.value for severity in Severity], help="events of this severity or worse only"
    )
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    usual = "24h" if parsed.what == "uptime" else "1h"
    since_s = parse_duration(usual if parsed.since is None else parsed.since, "--since")
    if parsed.what != "events" and (parsed.kind or parsed.severity):
        raise UsageError("--kind and --severity go with: hwdash history events", param="kind")

    if (parsed.what == "metrics") is not bool(parsed.metric):
        raise UsageError("history metrics needs --metric NAME, and nothing else takes it", param="metric")

    async def show(client: Client) -> int:
        if parsed.what == "events":
            events = await _events(client, since_s, parsed)
            _print(parsed.format, events, events_text, events_csv)
        elif parsed.what == "uptime":
            uptime = await client.uptime(since_s, parsed.device)
            _print(parsed.format, uptime, uptime_text, uptime_csv)
        elif parsed.what == "metrics":
            metric = await client.metric(parsed.metric, since_s, parsed.device)
            _print(parsed.format, metric, metric_text, metric_csv)
        else:
            latency = await client.latency(since_s, parsed.device)
            _print(parsed.format, latency, latency_text, latency_csv)
        return 0

    return with_client(parsed, show)


async def _events(client: Client, since_s: float, parsed: argparse.Namespace) -> EventHistory:
    kind = EventKind(parsed.kind) if parsed.kind else None
    history = await client.events(since_s, parsed.device, kind, _MOST_EVENTS)
    least = Severity(parsed.severity or Severity.INFO).weight
    return replace(history, events=tuple(event for event in history.events if event.severity.weight >= least))


def _print(form: str, history: H, text: Callable[[H], str], as_csv: Callable[[H], str]) -> None:
    if form == "json":
        print_json(to_wire(history))
    elif form == "csv":
        print(as_csv(history), end="")
    else:
        print(text(history))


def latency_text(history: LatencyHistory) -> str:
    """One line per device and model, then the throttled periods."""
    window = duration_text((history.until - history.since).total_seconds())
    if not history.series and not history.throttled:
        return f"no prompts in the last {window}; send one with: hwdash prompt TEXT"
    header = (
        "DEVICE",
        "MODEL",
        "REQUESTS",
        "ERRORS",
        "TTFT P50",
        "P95",
        "P99",
        "ITL P50",
        "P95",
        "P99",
        "TOTAL P50",
        "P95",
        "P99",
    )
    table = table_text(
        header,
        [
            (item.device, item.model, str(item.summary.requests), str(item.summary.errors), *_cells(item.summary))
            for item in history.series
        ],
        right=frozenset(range(2, len(header))),
    )
    return "\n".join([f"last {window}", table, *(_period_text(period) for period in history.throttled)])


def _cells(bucket: LatencyBucket) -> list[str]:
    return ["-" if value is None else seconds_text(value) for value in _values(bucket)]


def _values(bucket: LatencyBucket) -> list[float | None]:
    return [value for item in (bucket.ttft, bucket.itl, bucket.total) for value in _three(item)]


def _three(item: Percentiles | None) -> tuple[float | None, ...]:
    return (None, None, None) if item is None else (item.p50_s, item.p95_s, item.p99_s)


def _period_text(period: ThrottledPeriod) -> str:
    start = period.start.astimezone()
    lasted = "still" if period.end is None else f"for {duration_text((period.end - period.start).total_seconds())}"
    reasons = ", ".join(period.reasons) or "no reason recorded"
    return f"{period.device} throttled {lasted} from {start:%Y-%m-%d %H:%M:%S}: {reasons}"


def latency_csv(history: LatencyHistory) -> str:
    """One row per device, model and bucket; seconds."""
    names = [f"{metric}_{share}_s" for metric in ("ttft", "itl", "total") for share in ("p50", "p95", "p99")]
    return csv_text(
        ["start", "device", "device_key", "model", "requests", "errors", *names],
        [
            [
                bucket.start.isoformat(),
                item.device,
                item.device_key,
                item.model,
                bucket.requests,
                bucket.errors,
                *_values(bucket),
            ]
            for item in history.series
            for bucket in item.buckets
        ],
    )
