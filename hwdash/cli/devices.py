"""``hwdash devices``: all devices with their current sample and health."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import aclosing

from hwdash.cli.output import print_json, table_text
from hwdash.cli.settings import with_client
from hwdash.client.client import Client
from hwdash.core.errors import DaemonUnreachable
from hwdash.core.format import NOT_AVAILABLE, bytes_text, rate_text, reading_text, seconds_text
from hwdash.core.reading import Absent
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.core.wire import device_to_wire


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add ``devices``."""
    parser = command("devices", "all devices with their current sample and health")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=lambda parsed: with_client(parsed, lambda client: show_devices(client, parsed.json)))


async def show_devices(client: Client, as_json: bool) -> int:
    """Print the devices of the newest snapshot."""
    snapshot = await snapshot_with_rates(client)
    if as_json:
        print_json({"devices": [device_to_wire(status) for status in snapshot.devices]})
    else:
        print(devices_text(snapshot))
    return 0


async def snapshot_with_rates(client: Client) -> Snapshot:
    """The newest snapshot; of a daemon that has only just started the next one, which has rates as well."""
    async with aclosing(client.stream()) as snapshots:
        async for snapshot in snapshots:
            if snapshot.sequence > 1 or not _waits_for_a_rate(snapshot):
                return snapshot
    raise DaemonUnreachable("the daemon ended before it had read the devices; run: hwdash daemon")


def _waits_for_a_rate(snapshot: Snapshot) -> bool:
    return any(Absent.FIRST_SAMPLE in status.readings.values() for status in snapshot.devices)


_HEADER = ("RANK", "ID", "NAME", "UTIL", "MEMORY", "TEMP", "MARGIN", "POWER", "CLOCK", "LAST", "STATE")


def devices_text(snapshot: Snapshot) -> str:
    """The devices as a table, best first, and a line for each thing that is not as it should be."""
    order = {
        ranked.device: number for number, ranked in enumerate(snapshot.ranking.ranked if snapshot.ranking else (), 1)
    }
    statuses = sorted(snapshot.devices, key=lambda status: order.get(status.device.id, len(order) + 1))
    table = table_text(
        _HEADER,
        [(str(order.get(status.device.id, "-")), *_row(status)) for status in statuses],
        right=frozenset({0, 3, 5, 6, 7, 8}),
    )
    notes = [f"{source.name}: {source.problem}" for source in snapshot.sources if source.problem]
    return "\n".join([table, *notes])


def _row(status: DeviceStatus) -> tuple[str, ...]:
    health = status.health
    return (
        status.device.id,
        status.device.name,
        reading_text("utilization", status.readings.get("utilization")),
        _memory(status),
        reading_text("temperature_c", status.readings.get("temperature_c")),
        reading_text("temperature_margin_c", status.readings.get("temperature_margin_c")),
        _of(status, "power_w", status.device.limits.power_w, 1, "W"),
        _of(status, "clock_hz", status.device.limits.clock_hz, 1e6, "MHz"),
        _last(status),
        " ".join([str(health.state), *(f"({reason.removeprefix(f'{health.state}: ')})" for reason in health.reasons)]),
    )


def _memory(status: DeviceStatus) -> str:
    used, total = status.number("memory_used_bytes"), status.number("memory_total_bytes")
    if used is None or total is None:
        return NOT_AVAILABLE
    return f"{bytes_text(used)} / {bytes_text(total)}"


def _of(status: DeviceStatus, metric: str, limit: float | None, scale: float, unit: str) -> str:
    value = status.number(metric)
    if value is None:
        return NOT_AVAILABLE
    return f"{value / scale:.0f}" + (f" / {limit / scale:.0f}" if limit else "") + f" {unit}"


def _last(status: DeviceStatus) -> str:
    last = status.last_request
    if last is None or last.ttft_s is None:
        return "-"
    return seconds_text(last.ttft_s) + (f", {rate_text(last.tokens_per_s)}" if last.tokens_per_s else "")
