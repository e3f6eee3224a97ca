"""The dashboard with prompts that are answered slowly and a past that can be looked at: ``python -m tests.tui.demo_prompt``."""

from __future__ import annotations

import argparse
import asyncio
import math
import random
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

from hwdash.core.config import DashboardConfig
from hwdash.core.history import LatencyBucket, LatencyHistory, LatencySeries, Percentiles, ThrottledPeriod
from hwdash.core.inference import PromptEvent, PromptRequest
from hwdash.core.model import ModelInfo
from hwdash.tui.app import HwdashApp
from tests.tui.answer_events import WAITING, finished, tokens
from tests.tui.demo import DemoClient
from tests.tui.past import MODEL
from tests.tui.sample import gpu

SENTENCE = "the device runs slower than it could because the board reached its power cap 冷却 and the clock falls\n"


class DemoPromptClient(DemoClient):
    """Answers of 400 words at 60 a second, and a wavy past with a pause."""

    def __init__(self) -> None:
        super().__init__()
        self.store = [ModelInfo(MODEL, "/m", 270_000_000, ready=True)]

    async def prompt(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        for event in WAITING:
            yield event
            await asyncio.sleep(0.6)
        rng, words = random.Random(3), SENTENCE.split(" ")
        for event in tokens([rng.choice(words) + " " for _ in range(request.max_tokens)], 1.8, 1 / 60):
            yield event
            await asyncio.sleep(1 / 60)
        yield finished(request.max_tokens, throttle=("power_cap",))

    async def latency(self, since_s: float, device: str | None = None, buckets: int = 120) -> LatencyHistory:
        now, width = datetime.now(UTC), since_s / buckets
        found = []
        for number in range(buckets):
            share = number / buckets
            if 0.3 < share < 0.4:
                continue
            p50 = 0.04 + 0.01 * math.sin(number / 5) + 0.03 * (0.6 < share < 0.75)
            each = Percentiles(p50, p50 * 1.4, p50 * 2)
            found.append(LatencyBucket(now - timedelta(seconds=since_s - number * width), 9, 0, each, each, each))
        series = LatencySeries("gpu0", gpu(0).key, MODEL, found[-1], tuple(found))
        ago = [now - timedelta(seconds=since_s * share) for share in (0.4, 0.25)]
        period = ThrottledPeriod("gpu0", gpu(0).key, ago[0], ago[1], (), ("power_cap",))
        return LatencyHistory(now - timedelta(seconds=since_s), now, width, (series,), (period,))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--theme", default="hwdash")
    parser.add_argument("--ascii", action="store_true")
    options = parser.parse_args()
    HwdashApp(DemoPromptClient(), DashboardConfig(options.theme, options.ascii), host="node7").run()


if __name__ == "__main__":
    main()
