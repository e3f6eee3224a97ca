"""A client that brings its own daemon."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hwdash.client.endpoint import Endpoint, NotRunning
from hwdash.client.http import HttpClient
from hwdash.client.launch import LaunchingClient, connect
from hwdash.core.errors import DaemonUnreachable
from hwdash.core.inference import FinishedEvent
from hwdash.core.paths import Paths, paths_from
from hwdash.core.snapshot import Snapshot
from tests.daemon.living import ask_for, short_directory

SCRIPT = Path(__file__).parents[1] / "daemon" / "fake_daemon.py"


@asynccontextmanager
async def home(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Paths]:
    with short_directory() as root:
        (root / "r").mkdir(mode=0o700)
        for name, place in (("STATE_HOME", "s"), ("CACHE_HOME", "c"), ("CONFIG_HOME", "f"), ("RUNTIME_DIR", "r")):
            monkeypatch.setenv(f"XDG_{name}", str(root / place))
        yield paths_from(os.environ)


def launching(paths: Paths, *arguments: str) -> LaunchingClient:
    command = [sys.executable, str(SCRIPT), "--owned", *arguments]
    return LaunchingClient(HttpClient(Endpoint(socket=paths.socket)), command)


async def rest_of(stream: AsyncIterator[Snapshot]) -> None:
    async for _ in stream:
        pass


async def test_the_first_call_starts_a_daemon_and_close_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with home(monkeypatch) as paths:
        client = launching(paths)
        try:
            status = await client.status()
            assert status.owned
            assert len((await client.snapshot()).devices) == 2
            assert (await client.status()).pid == status.pid
        finally:
            await client.close()
        assert not paths.socket.exists()
        assert not Path(f"/proc/{status.pid}/exe").exists()


async def test_a_prompt_or_a_stream_can_be_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async with home(monkeypatch) as paths:
        client = launching(paths)
        try:
            events = [event async for event in client.prompt(ask_for())]
            assert isinstance(events[-1], FinishedEvent)
        finally:
            await client.close()
        client = launching(paths)
        try:
            assert (await anext(client.stream())).devices
        finally:
            await client.close()


async def test_a_running_daemon_is_used_and_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    async with home(monkeypatch) as paths:
        owner, guest = launching(paths), launching(paths)
        try:
            pid = (await owner.status()).pid
            assert (await guest.status()).pid == pid
            await guest.close()
            assert (await owner.status()).pid == pid
        finally:
            await guest.close()
            await owner.close()


async def test_two_at_once_end_up_with_one_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    async with home(monkeypatch) as paths:
        clients = [launching(paths) for _ in range(3)]
        try:
            statuses = await asyncio.gather(*(client.status() for client in clients), clients[0].status())
            assert len({status.pid for status in statuses}) == 1
        finally:
            for client in clients:
                await client.close()


async def test_after_the_daemon_died_the_next_call_starts_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async with home(monkeypatch) as paths:
        client = launching(paths)
        try:
            first = await client.status()
            stream = client.stream()
            await anext(stream)
            os.kill(first.pid, signal.SIGKILL)
            with pytest.raises(DaemonUnreachable):
                await rest_of(stream)
            assert (await client.status()).pid != first.pid
        finally:
            await client.close()


async def test_when_the_owner_leaves_a_guest_starts_its_own_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with home(monkeypatch) as paths:
        owner, guest = launching(paths), launching(paths)
        try:
            first = await owner.status()
            await guest.status()
            leaving = asyncio.create_task(owner.close())
            while (second := await guest.status()).pid == first.pid:
                await asyncio.sleep(0.01)
            await leaving
            assert second.owned
        finally:
            await guest.close()
            await owner.close()


async def test_what_a_daemon_says_before_it_ends_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with home(monkeypatch) as paths:
        words = "import sys; sys.exit('hwdash: the disk is on fire')"
        client = LaunchingClient(HttpClient(Endpoint(socket=paths.socket)), [sys.executable, "-c", words])
        with pytest.raises(DaemonUnreachable, match=r"^no daemon could be started: the disk is on fire$"):
            await client.status()
        await client.close()


async def test_a_daemon_elsewhere_with_the_same_state_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with home(monkeypatch) as paths:
        other = paths.runtime / "other"
        first = LaunchingClient(
            HttpClient(Endpoint(socket=other)), [sys.executable, str(SCRIPT), "--owned", "--socket", str(other)]
        )
        second = launching(paths)
        try:
            pid = (await first.status()).pid
            with pytest.raises(DaemonUnreachable, match=rf"already runs for .*pid {pid}"):
                await second.status()
        finally:
            await second.close()
            await first.close()


async def test_without_launching_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    async with home(monkeypatch) as paths:
        client = connect(paths, launch=False)
        with pytest.raises(NotRunning, match="start one with: hwdash daemon") as caught:
            await client.status()
        assert caught.value.exit_code == 4
        await client.close()
        assert not paths.state.exists()


async def test_stop_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with home(monkeypatch) as paths:
        client = launching(paths)
        with pytest.raises(NotRunning):
            await client.stop()
        await client.close()


async def test_a_daemon_that_cannot_even_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async with home(monkeypatch) as paths:
        client = LaunchingClient(HttpClient(Endpoint(socket=paths.socket)), [str(paths.state / "nothing")])
        with pytest.raises(DaemonUnreachable, match="no daemon could be started: No such file or directory"):
            await client.status()
        await client.close()
