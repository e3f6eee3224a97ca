"""The dashboard over eight made-up devices that wobble: ``python -m tests.tui.demo [--theme NAME] [--ascii] [--break]``."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import random
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hwdash.client.fake import FakeClient
from hwdash.core.config import DashboardConfig
from hwdash.core.errors import DaemonUnreachable
from hwdash.core.health import HealthState
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.tui.app import HwdashApp
from tests.tui.sample import cpu, gpu, lost, mixed_snapshot, ranking, status


def wobble(index: int, second: int, rng: random.Random) -> DeviceStatus:
    """A device under changing load; every value moves a little each second."""
    if index == 6 and second % 40 > 30:
        return lost(gpu(6))
    load = 0.6 + 0.35 * math.sin(second / (11 + 3 * index) + index) + rng.uniform(-0.05, 0.05)
    load = min(1.0, max(0.0, load))
    base = mixed_snapshot().devices[index]
    if base.health.state in (HealthState.STALE, HealthState.LOST):
        base = status(gpu(index))
    if index == 7:
        base = status(cpu())
    heat = 35 + 45 * load + rng.uniform(-1, 1)
    readings = dict(base.readings) | {
        "utilization": load,
        "temperature_c": heat,
        "temperature_margin_c": 89 - heat,
        "power_w": 90 + 590 * load + rng.uniform(-9, 9),
        "clock_hz": (1980 - 400 * load * (index in (3, 4))) * 1e6 - 15e6 * rng.randrange(3),
        "memory_used_bytes": base.readings["memory_total_bytes"] * (0.3 + 0.5 * load),  # type: ignore[operator]
    }
    return replace(base, readings=readings)


class DemoClient(FakeClient):
    """Snapshots once a second; with *breaks* the daemon goes away for a while now and then."""

    def __init__(self, *, breaks: bool = False, past_s: int = 0) -> None:
        super().__init__([mixed_snapshot()])
        self._past_s = past_s
        self._breaks = breaks

    async def stream(self) -> AsyncGenerator[Snapshot, None]:
        rng = random.Random(7)
        for second in itertools.count(1):
            if self._breaks and second % 20 > 14:
                raise DaemonUnreachable("connection refused")
            devices = tuple(wobble(index, second, rng) for index in range(8))
            ago = max(0, self._past_s - second)
            yield Snapshot(second, datetime.now(UTC) - timedelta(seconds=ago), 1.0, devices, (), ranking())
            await asyncio.sleep(0.0 if ago else 1.0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--theme", default="hwdash")
    parser.add_argument("--ascii", action="store_true")
    parser.add_argument("--break", dest="breaks", action="store_true")
    parser.add_argument("--past", type=int, default=0, help="seconds of history to begin with")
    options = parser.parse_args()
    client = DemoClient(breaks=options.breaks, past_s=options.past)
    HwdashApp(client, DashboardConfig(options.theme, options.ascii), host="node7").run()


if __name__ == "__main__":
    main()
