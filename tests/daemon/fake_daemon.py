"""The daemon process over a fake source and a fake engine, at the places of the environment. Run by path."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from hwdash.core.config import Config, MonitorConfig, override_from_environment
from hwdash.core.device import Device
from hwdash.core.errors import HwdashError
from hwdash.core.paths import paths_from
from hwdash.daemon import service
from hwdash.daemon.parts import Parts
from hwdash.daemon.process import run_daemon
from hwdash.engine.fake import FakeEngine
from hwdash.sources.fake import FakeSource, fake_gpu
from tests.daemon.fake_models import FakeModels


class HangingEngine(FakeEngine):
    """Looks models up on a disk that never answers."""

    async def check(self, model: str, device: Device) -> None:
        await asyncio.to_thread(time.sleep, 3600)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--owned", action="store_true")
    parser.add_argument("--socket", type=Path)
    parser.add_argument("--hang", action="store_true", help="every read of the second device hangs")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds between two tokens")
    parser.add_argument("--hang-disk", action="store_true", help="looking up a model hangs")
    parser.add_argument("--crash", action="store_true", help="a background task crashes")
    parsed = parser.parse_args()
    engine = HangingEngine() if parsed.hang_disk else FakeEngine(parsed.delay)
    if parsed.crash:
        vars(service)["rank"] = lambda *_: 1 / 0
    source = FakeSource([fake_gpu(0), fake_gpu(1)])
    if parsed.hang:
        source.hanging.add(fake_gpu(1).key)
    try:
        return run_daemon(
            override_from_environment(Config(monitor=MonitorConfig(interval_s=0.1, deadline_s=0.2)), os.environ),
            paths_from(os.environ),
            socket=parsed.socket,
            owned=parsed.owned,
            parts=Parts((source,), engine, FakeModels()),
        )
    except HwdashError as error:
        sys.stderr.write(f"hwdash: {error.message}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
