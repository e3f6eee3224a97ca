"""What a crowd of clients costs the poll: streams that are opened and left, and requests that come a byte a second.

A real daemon, over fake devices and a fake engine, listens over TCP with a token. The time between its snapshots, by its
own clock, is taken first alone and then under the crowd, in the same run; its descriptors and its tasks before and after.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench.place import home
from bench.report import Figure, write

GOAL = 0.10
VANISHING = 200
DRIPPING = 50
OVER_TCP = 70  # of those that vanish; with those that drip as many as get a place, the rest comes over the socket
BURST_S = 5.0
DEVICES = 8
PROMPT = json.dumps(
    {"model": "fake", "messages": [{"role": "user", "content": "word " * 400}], "stream": True}
).encode()
OLD_PROMPT = json.dumps({"model": "fake", "prompt": "word " * 400}).encode()


class Loops(asyncio.DefaultEventLoopPolicy):
    """Remembers the loops that it makes, so that another thread can count their tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[asyncio.AbstractEventLoop] = []

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """A loop, remembered."""
        loop = super().new_event_loop()
        self.made.append(loop)
        return loop


def serve(interval_s: float) -> int:
    """The daemon under measurement; a line on stdin is answered with the number of its tasks."""
    import threading

    from hwdash.core.config import Config, HttpConfig, MonitorConfig
    from hwdash.core.paths import paths_from
    from hwdash.daemon.parts import Parts
    from hwdash.daemon.process import run_daemon
    from hwdash.engine.fake import FakeEngine
    from hwdash.sources.fake import FakeSource, fake_gpu

    loops = Loops()
    asyncio.set_event_loop_policy(loops)

    def count() -> None:
        for _ in sys.stdin:
            print(sum(len(asyncio.all_tasks(loop)) for loop in loops.made), flush=True)

    threading.Thread(target=count, daemon=True).start()
    config = Config(monitor=MonitorConfig(interval_s=interval_s), http=HttpConfig(listen="127.0.0.1:0"))
    devices = [fake_gpu(number) for number in range(DEVICES)]
    return run_daemon(config, paths_from(os.environ), parts=Parts((FakeSource(devices),), FakeEngine(0.05)))


@dataclass(frozen=True)
class Target:
    """A running daemon."""

    process: subprocess.Popen[str]
    port: int
    token: str
    socket: str

    def tasks(self) -> int:
        """Its tasks now."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def descriptors(self) -> int:
        """Its open files now."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    async def connect(self, tcp: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection, over TCP or the socket."""
        if tcp:
            return await asyncio.open_connection("127.0.0.1", self.port)
        return await asyncio.open_unix_connection(self.socket)

    def request(self, method: str, target: str, body: bytes = b"") -> bytes:
        """A whole request."""
        head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.token}\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def started(environment: Mapping[str, str], interval_s: float) -> Iterator[Target]:
    """The daemon of `serve`, listening."""
    from hwdash.daemon.token import TokenFile

    token, _ = TokenFile(Path(environment["XDG_STATE_HOME"]) / "hwdash" / "tokens.json").create("bench")
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.clients", str(interval_s)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = next((line for line in process.stderr if "serves on" in line), "")
        found = re.search(r"serves on (\S+) and http://127\.0\.0\.1:(\d+);", line)
        if found is None:
            raise RuntimeError("the daemon did not come up")
        yield Target(process, int(found[2]), token, found[1])
    finally:
        process.terminate()
        process.communicate(timeout=10)


async def _watch(target: Target, times: list[float]) -> None:
    """Note when each snapshot was taken, by the daemon's clock."""
    reader, writer = await asyncio.open_unix_connection(target.socket, limit=2**24)
    writer.write(b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        while line := await reader.readline():
            if line.startswith(b"data:"):
                times.append(datetime.fromisoformat(json.loads(line[5:])["taken_at"]).timestamp())
    finally:
        writer.transport.abort()


async def _vanish(target: Target, tcp: bool, request: bytes, seen: Counter[str]) -> None:
    """Ask for a stream, see that it begins, and be gone."""
    try:
        reader, writer = await target.connect(tcp)
        writer.write(request)
        async with asyncio.timeout(BURST_S):
            seen[(await reader.readline()).decode().strip()] += 1
        writer.transport.abort()
    except (OSError, TimeoutError) as error:
        seen[type(error).__name__] += 1


async def _drip(target: Target, seen: Counter[str]) -> None:
    """A request a byte a second, again from the start whenever the daemon has had enough."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await target.connect(tcp=True)
            seen["slow connections"] += 1
            try:
                for byte in target.request("GET", "/api/v1/devices"):
                    writer.write(bytes((byte,)))
                    await writer.drain()
                    await asyncio.sleep(1.0)
            finally:
                writer.transport.abort()


async def _prompt_of(target: Target) -> bytes:
    """The request for a streamed answer."""
    reader, writer = await target.connect(tcp=True)
    request = target.request("POST", "/v1/chat/completions", PROMPT)
    writer.write(request)
    status = (await reader.readline()).split()[1]
    writer.transport.abort()
    return request if status == b"200" else target.request("POST", "/api/v1/prompt", OLD_PROMPT)


async def _crowd(target: Target, seconds: float) -> dict[str, int]:
    """Bursts of clients that vanish, every few seconds, beside those that drip."""
    seen: Counter[str] = Counter()
    requests = (target.request("GET", "/api/v1/stream"), await _prompt_of(target))
    drips = [asyncio.create_task(_drip(target, seen)) for _ in range(DRIPPING)]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        clients = (_vanish(target, number < OVER_TCP, requests[number % 2], seen) for number in range(VANISHING))
        await asyncio.gather(*clients)
        await asyncio.sleep(max(0.0, min(end, began + BURST_S) - time.monotonic()))
    for drip in drips:
        drip.cancel()
    await asyncio.wait(drips)
    return dict(seen)


def _spread(times: Sequence[float], interval_s: float) -> dict[str, float]:
    """Of the intervals between *times*: median, the 99th percentile, the longest, and the largest deviation as a share."""
    gaps = [after - before for before, after in itertools.pairwise(times)]
    return {
        "intervals": len(gaps),
        "p50_s": statistics.median(gaps),
        "p99_s": statistics.quantiles(gaps, n=100, method="inclusive")[98],
        "worst_s": max(gaps),
        "deviation": max(abs(gap / interval_s - 1) for gap in gaps),
    }


async def _settled(target: Target, tasks: int, descriptors: int) -> tuple[int, int]:
    """Tasks and descriptors once they are as before, or after ten seconds of waiting for it."""
    end = time.monotonic() + 10
    while (target.tasks() > tasks or target.descriptors() > descriptors) and time.monotonic() < end:
        await asyncio.sleep(0.2)
    return target.tasks(), target.descriptors()


async def _measure(target: Target, interval_s: float, seconds: float) -> dict[str, object]:
    times: list[float] = []
    watching = asyncio.create_task(_watch(target, times))
    await asyncio.sleep(3 * interval_s)
    tasks, descriptors = target.tasks(), target.descriptors()
    first = len(times)
    await asyncio.sleep(seconds)
    alone = times[first:]
    crowd = await _crowd(target, seconds)
    crowded = times[first + len(alone) :]
    tasks_after, descriptors_after = await _settled(target, tasks, descriptors)
    watching.cancel()
    await asyncio.wait({watching})
    quiet, loud = _spread(alone, interval_s), _spread(crowded, interval_s)
    return {
        "alone": quiet,
        "crowded": loud,
        "p99_ratio": loud["p99_s"] / quiet["p99_s"],
        "answers": crowd,
        "tasks": [tasks, tasks_after],
        "descriptors": [descriptors, descriptors_after],
        "left_behind": max(0, tasks_after - tasks) + max(0, descriptors_after - descriptors),
    }


def run(seconds: float = 30, intervals: Sequence[float] = (1.0, 0.2)) -> None:
    """Measure and write ``clients.json``."""
    raw = {}
    figures = []
    for interval_s in intervals:
        with home() as environment, started(environment, interval_s) as target:
            result = asyncio.run(_measure(target, interval_s, seconds))
        raw[f"{interval_s:g} s"] = result
        for name in ("alone", "crowded"):
            spread = result[name]
            assert isinstance(spread, dict)
            print(
                f"      every {interval_s:g} s, {name}: p50 {spread['p50_s']:.4f} s, p99 {spread['p99_s']:.4f} s, "
                f"worst {spread['worst_s']:.4f} s"
            )
        left, crowded = result["left_behind"], result["crowded"]
        assert isinstance(left, int)
        assert isinstance(crowded, dict)
        figures.append(Figure(f"tasks and descriptors left behind, every {interval_s:g} s", left, 0, ""))
        if interval_s == intervals[0]:  # the default; the quicker one shows what the crowd costs in milliseconds
            figures.append(
                Figure("the poll's largest deviation from its interval in a crowd", crowded["deviation"], GOAL, "")
            )
    write("clients", figures, {"seconds": seconds, "vanishing": VANISHING, "dripping": DRIPPING, "by_interval": raw})


if __name__ == "__main__":
    sys.exit(serve(float(sys.argv[1])))
