"""The daemon as a process: lock, socket, log, signals, and a clean end whatever hangs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from socket import socket as Socket  # noqa: N812 - a class with a lower-case name
from typing import TYPE_CHECKING, Any

from hwdash import __version__
from hwdash.core.config import Config
from hwdash.core.errors import HwdashError, UsageError
from hwdash.core.paths import Paths
from hwdash.daemon.listen import Door, opened, plan
from hwdash.daemon.lock import held_lock
from hwdash.daemon.logfile import start_logging
from hwdash.daemon.parts import Parts
from hwdash.daemon.socket import listening

if TYPE_CHECKING:
    from hwdash.daemon.server import SocketServer
    from hwdash.daemon.service import Service

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_OWNED_LOCK_WAIT_S = 2.0
_THREADS = 4
_LAST_THREADS_S = 0.3
_HUNG_END_S = 5.0
_OWN_PARTS = Parts()


def run_daemon(
    config: Config,
    paths: Paths,
    *,
    socket: Path | None = None,
    owned: bool = False,
    verbose: bool = False,
    parts: Parts = _OWN_PARTS,
) -> int:
    """Run the daemon until a signal, a client's stop, or (*owned*) the end of stdin; gives the exit code.

    An *owned* daemon waits two seconds for one that is just ending to release its lock. One that plays a recording
    has a state directory and, without *socket*, a socket of its own. Over TCP it listens where ``config.http`` says,
    unless it is *owned*: what a command starts for itself is for nobody else. Raises `DaemonUnreachable`
    when another daemon runs or a place cannot be used, `UsageError` when an owned daemon has no pipe on stdin and for what
    cannot be listened at.
    """
    if owned and not stat.S_ISFIFO(os.fstat(0).st_mode) and not stat.S_ISSOCK(os.fstat(0).st_mode):
        raise UsageError("--owned needs a pipe on stdin; to keep a daemon running use: hwdash daemon")
    wanted = None if owned else plan(config.http, paths.tokens)
    if parts.playback is not None:
        from hwdash.daemon.replay import private_home

        home: contextlib.AbstractContextManager[Paths] = private_home(paths)
    else:
        home = contextlib.nullcontext(paths)
    with home as paths:
        path = socket or paths.socket
        with (
            held_lock(paths.lock, path, _OWNED_LOCK_WAIT_S if owned else 0.0),
            listening(path) as listener,
            opened(wanted) as door,
        ):
            problem = start_logging(paths.log, verbose=verbose, foreground=not owned)
            code = _serve(_Daemon(config, paths, Doors(path, listener, door), owned, problem, parts))
    _leave(code)
    return code


def _serve(daemon: _Daemon) -> int:
    """Run *daemon*, with a word in the log at its start and its end; gives the exit code."""
    log.info("hwdash %s starts, pid %d, at %s", __version__, os.getpid(), daemon.doors)
    if daemon.doors.tcp is not None and daemon.doors.tcp.warning:
        log.warning("%s", daemon.doors.tcp.warning)
    code = _run(daemon)
    log.info("ended with code %d", code)
    return code


@dataclass(frozen=True, slots=True)
class Doors:
    """Where the daemon is reached: the Unix socket at *path*, and over TCP where that is asked for."""

    path: Path
    socket: Socket
    tcp: Door | None

    def __str__(self) -> str:
        return str(self.path) if self.tcp is None else f"{self.path} and {self.tcp.url}"


class _Daemon:
    """One life of the daemon on a running event loop."""

    def __init__(
        self,
        config: Config,
        paths: Paths,
        doors: Doors,
        owned: bool,
        problem: str,
        parts: Parts,
    ) -> None:
        self.doors = doors
        self._config = config
        self._paths = paths
        self._owned = owned
        self._problem = problem
        self._parts = parts
        self._stop = asyncio.Event()

    async def live(self) -> int:
        """Start, serve, end. Gives the exit code."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it
                loop.add_signal_handler(number, self._stop.set)
        if self._owned:
            os.set_blocking(0, False)
            loop.add_reader(0, self._read_owner)
        async with self._service() as service, contextlib.AsyncExitStack() as at_end:
            # fastapi takes a third of a second to import; meanwhile the first samples are taken.
            servers = await asyncio.to_thread(_make_servers, service, self._stop, self.doors, at_end)
            serving = [asyncio.create_task(server.serve(sockets=sockets)) for server, sockets in servers]
            stopping = asyncio.create_task(self._stop.wait())
            # What is loaded now stays for good: no later collection needs to look through it.
            gc.collect()
            gc.freeze()
            if not self._owned:
                sys.stderr.write(f"hwdash {__version__} serves on {self.doors}; Ctrl-C ends it\n")
            ends: tuple[asyncio.Future[Any], ...] = (*serving, service.failure, stopping)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            self._end_surely()
            crashed = next((end for end in ends[:-1] if end.done()), None)
            if crashed is not None:
                log.critical("a background task has ended: the daemon ends", exc_info=crashed.exception())
            stopping.cancel()
            service.stopping.set()
            for server, _ in servers:
                server.end()
            await asyncio.wait(serving)
            return 0 if crashed is None else 1

    @contextlib.asynccontextmanager
    async def _service(self) -> AsyncIterator[Service]:
        from hwdash.daemon.compose import compose
        from hwdash.daemon.service import Identity

        tcp = self.doors.tcp
        problems = (self._problem, tcp.warning if tcp is not None else "")
        identity = Identity(str(self.doors.path), self._owned, "; ".join(filter(None, problems)))
        service = await compose(self._config, self._paths, identity, self._parts)
        service.listen = None if tcp is None else str(tcp.address)
        try:
            await service.start()
            yield service
        finally:
            await service.close()

    def _read_owner(self) -> None:
        """Whoever started this daemon holds the other end of stdin; when it is closed, nobody needs the daemon."""
        with contextlib.suppress(BlockingIOError):
            if not os.read(0, 4096):
                asyncio.get_running_loop().remove_reader(0)
                self._stop.set()

    def _end_surely(self) -> None:
        """Whatever blocks the event loop from now on does not keep the process alive."""

        def end() -> None:
            log.critical("the end hangs: leaving without it")
            logging.shutdown()
            os._exit(1)

        timer = threading.Timer(_HUNG_END_S, end)
        timer.daemon = True
        timer.start()


def _make_servers(
    service: Service, stop: asyncio.Event, doors: Doors, at_end: contextlib.AsyncExitStack
) -> list[tuple[SocketServer, list[Socket]]]:
    """A server for each kind of door, with its sockets. They share the places for clients."""
    from hwdash.daemon.app import create_app
    from hwdash.daemon.guard import TokenGuard, guarded
    from hwdash.daemon.server import Places, SocketServer

    app = create_app(service, stop.set)
    places = Places()
    servers = [(SocketServer(app, places), [doors.socket])]
    if doors.tcp is not None:
        guard = guarded(app, doors.tcp)
        if isinstance(guard, TokenGuard):
            at_end.callback(guard.close)
        servers.append((SocketServer(guard, places, doors.tcp.tls), list(doors.tcp.sockets)))
    return servers


def _run(daemon: _Daemon) -> int:
    """Run *daemon* on a loop of its own. `asyncio.run` would wait for ever for a thread that hangs in a file system."""
    loop = asyncio.new_event_loop()
    executor = ThreadPoolExecutor(_THREADS, "hwdash")
    loop.set_default_executor(executor)
    try:
        return loop.run_until_complete(daemon.live())
    except HwdashError:
        raise
    except Exception:
        log.critical("the daemon has failed", exc_info=True)
        raise
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=_LAST_THREADS_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _leave(code: int) -> None:
    """End the process here if a thread hangs that the interpreter would wait for."""
    deadline = time.monotonic() + _LAST_THREADS_S
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("thread %s hangs: leaving without it", thread.name)
                logging.shutdown()
                sys.stderr.flush()
                os._exit(code)
