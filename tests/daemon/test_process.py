"""The daemon as a process: how it starts beside another, and how it ends whatever happens."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hwdash.client.endpoint import Endpoint
from hwdash.client.http import HttpClient
from hwdash.core.errors import DaemonUnreachable, UnknownDevice
from hwdash.core.inference import PromptEvent, TokenEvent
from hwdash.core.paths import Paths, paths_from
from tests.daemon.living import ask_for, short_directory

SCRIPT = Path(__file__).with_name("fake_daemon.py")
END_S = 3.0  # the promise is one second; the machine of a test may be busy


@dataclass
class Home:
    """A user's directories, empty."""

    root: Path
    started: list[subprocess.Popen[str]]

    @property
    def environ(self) -> dict[str, str]:
        places = {f"XDG_{name}": str(self.root / name) for name in ("STATE_HOME", "CACHE_HOME", "CONFIG_HOME")}
        return dict(os.environ) | places | {"XDG_RUNTIME_DIR": str(self.root / "r")}

    @property
    def paths(self) -> Paths:
        return paths_from(self.environ)

    @property
    def client(self) -> HttpClient:
        return HttpClient(Endpoint(socket=self.paths.socket))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments],
            env=self.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    async def answered(self, client: HttpClient | None = None) -> HttpClient:
        """The client, once the daemon answers it."""
        client = client or self.client
        async with asyncio.timeout(30):
            while True:
                try:
                    await client.status()
                except DaemonUnreachable:
                    await asyncio.sleep(0.02)
                else:
                    return client


@pytest.fixture
def home() -> Iterator[Home]:
    with short_directory() as root:
        (root / "r").mkdir(mode=0o700)
        home = Home(root, [])
        yield home
        for process in home.started:
            process.kill()
            process.communicate()


def ends(process: subprocess.Popen[str]) -> int:
    """The exit code of a process that ends in time."""
    before = time.monotonic()
    code = process.wait(30)
    assert time.monotonic() - before < END_S
    return code


async def test_it_answers_and_ends_without_a_trace_of_its_socket(home: Home) -> None:
    process = home.start()
    client = await home.answered()
    status = await client.status()
    assert (status.pid, status.owned, status.socket) == (process.pid, False, str(home.paths.socket))
    assert [device.device.id for device in (await client.snapshot()).devices] == ["gpu0", "gpu1"]
    process.terminate()
    assert ends(process) == 0
    assert not home.paths.socket.exists()
    assert "serves on" in process.communicate()[1]
    assert "ended with code 0" in home.paths.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_ends_it_while_a_device_hangs_a_client_listens_and_a_model_generates(
    home: Home, number: signal.Signals
) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("these tests were started with that signal ignored")
    process = home.start("--hang", "--delay", "0.01")
    client = await home.answered()
    stream = client.stream()
    await anext(stream)
    prompt = client.prompt(ask_for("word " * 50_000, max_tokens=100_000, device="gpu0"))
    while not isinstance(await anext(prompt), TokenEvent):
        pass
    process.send_signal(number)
    assert ends(process) == 0
    with pytest.raises(DaemonUnreachable):
        async for _ in prompt:
            pass
    await stream.aclose()
    assert "Traceback" not in home.paths.log.read_text()


async def test_a_thread_that_hangs_in_the_file_system_does_not_keep_it(home: Home) -> None:
    process = home.start("--hang-disk")
    client = await home.answered()
    asking = asyncio.create_task(first_of(client.prompt(ask_for())))
    await client.snapshot()
    await asyncio.sleep(0)
    process.terminate()
    assert ends(process) == 0
    assert not home.paths.socket.exists()
    with pytest.raises(DaemonUnreachable):
        await asking


async def first_of(events: AsyncGenerator[PromptEvent, None]) -> PromptEvent:
    return await anext(events)


def test_a_crash_in_the_background_ends_it_with_a_word(home: Home) -> None:
    process = home.start("--crash")
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "a background task has ended" in stderr
    assert "ZeroDivisionError" in home.paths.log.read_text()
    assert not home.paths.socket.exists()


async def test_a_second_daemon_for_the_same_state_is_refused(home: Home) -> None:
    first = home.start()
    await home.answered()
    second = home.start("--socket", str(home.root / "r" / "hwdash" / "other"))
    _, stderr = second.communicate(timeout=30)
    assert second.returncode == 4
    assert f"a daemon already runs for {home.paths.state} (pid {first.pid}) and serves on {home.paths.socket}" in stderr
    assert stderr.endswith(f"stop it with: hwdash --socket {home.paths.socket} stop\n")


async def test_after_a_kill_the_next_one_starts_and_history_is_there(home: Home) -> None:
    process = home.start()
    client = await home.answered()
    async for _ in client.prompt(ask_for()):
        pass
    process.kill()
    process.wait()
    assert home.paths.socket.exists()
    home.start()
    client = await home.answered()
    assert (await client.latency(3600)).series[0].summary.requests == 1
    with pytest.raises(UnknownDevice):
        await client.latency(3600, "gpu5")
    async with asyncio.timeout(20):
        while (await client.snapshot()).devices[0].last_request is None:
            await asyncio.sleep(0.05)


async def test_stop_waits_until_it_is_gone(home: Home) -> None:
    process = home.start()
    client = await home.answered()
    await client.stop()
    assert not home.paths.socket.exists()
    assert ends(process) == 0


async def test_an_owned_daemon_ends_with_the_pipe(home: Home) -> None:
    process = home.start("--owned")
    client = await home.answered()
    assert (await client.status()).owned
    assert process.stdin is not None
    process.stdin.close()
    process.stdin = None
    assert ends(process) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""


async def test_kill_9_of_the_owner_ends_the_owned_daemon(home: Home) -> None:
    script = f"""
import subprocess, sys, time
daemon = subprocess.Popen([sys.executable, {str(SCRIPT)!r}, "--owned"], stdin=subprocess.PIPE)
time.sleep(600)
"""
    owner = subprocess.Popen([sys.executable, "-c", script], env=home.environ)
    try:
        client = await home.answered()
        pid = (await client.status()).pid
    finally:
        owner.kill()
        owner.wait()
    async with asyncio.timeout(END_S):
        while Path(f"/proc/{pid}/exe").exists() and home.paths.socket.exists():
            await asyncio.sleep(0.02)


def test_an_owned_daemon_needs_a_pipe(home: Home) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--owned"],
        env=home.environ,
        stdin=subprocess.DEVNULL,
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "needs a pipe" in done.stderr


def test_a_runtime_directory_that_is_open_to_others_is_refused(home: Home) -> None:
    home.paths.runtime.mkdir(mode=0o755)
    home.paths.runtime.chmod(0o755)
    process = home.start()
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 4
    assert "chmod 700" in stderr
    assert stderr.count("\n") == 1
