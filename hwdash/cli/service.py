"""``hwdash daemon``, ``status`` and ``stop``: the service itself."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hwdash.cli.output import print_json, table_text
from hwdash.cli.playback import add_playback, playback_of
from hwdash.cli.settings import load_config, with_client
from hwdash.client.client import Client
from hwdash.core.address import parse_address
from hwdash.core.config import Config, check_interval
from hwdash.core.errors import HwdashError, UsageError
from hwdash.core.format import bytes_text, duration_text
from hwdash.core.paths import paths_from
from hwdash.core.status import AdmissionStatus, WorkerStatus
from hwdash.core.wire import to_wire


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add ``daemon``, ``status`` and ``stop``."""
    parser = command("daemon", "run the monitoring daemon in the foreground, until Ctrl-C or `hwdash stop`")
    # No defaults of its own: they would hide what stands before the command's name.
    parser.add_argument(
        "--interval",
        type=float,
        metavar="SEC",
        default=argparse.SUPPRESS,
        help="seconds between two samples, 0.1 to 60",
    )
    add_playback(parser, argparse.SUPPRESS)
    _add_listening(parser)
    parser.add_argument("--owned", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=_run_daemon)
    parser = command("status", "the daemon's pid, uptime, interval, addresses, workers and queues")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(
        run=lambda parsed: with_client(
            parsed, lambda client: show_status(client, parsed.json, parsed.verbose), launch=False
        )
    )
    parser = command("stop", "end the running daemon")
    parser.set_defaults(run=lambda parsed: with_client(parsed, _stop, launch=False))


def _add_listening(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("TCP", "besides its socket; requests over TCP need a token (hwdash token create)")
    group.add_argument(
        "--listen", metavar="HOST:PORT", help="listen there too: 127.0.0.1:8080, [::1]:8080; port 0: any"
    )
    group.add_argument("--insecure", action="store_true", help="ask for no token: whoever reaches the address gets in")
    group.add_argument("--certificate", metavar="FILE", help="TLS: certificate and its chain, PEM")
    group.add_argument("--key", metavar="FILE", help="TLS: the certificate's key, PEM, without a passphrase")


def with_listening(config: Config, parsed: argparse.Namespace) -> Config:
    """*config* with the daemon's TCP flags laid over it. Raises `UsageError` for flags that mean nothing together."""
    names = [
        name for name in ("listen", "insecure", "certificate", "key") if getattr(parsed, name) not in (None, False)
    ]
    http = replace(config.http, **{name: getattr(parsed, name) for name in names})
    if names and http.listen is None:
        raise UsageError(f"--{names[0]} means nothing without an address: add --listen HOST:PORT", param="listen")
    if parsed.listen is not None:
        parse_address(parsed.listen, "--listen")
    if names and parsed.owned:
        raise UsageError("--owned is of a daemon that a command starts for itself: it does not listen over TCP")
    return replace(config, http=http)


def with_interval(config: Config, interval_s: float | None) -> Config:
    """*config* with the interval of a flag, where one was given. Raises `UsageError` when it is out of range."""
    if interval_s is None:
        return config
    return replace(config, monitor=replace(config.monitor, interval_s=check_interval(interval_s)))


def _run_daemon(parsed: argparse.Namespace) -> int:
    from hwdash.daemon.parts import Parts
    from hwdash.daemon.process import run_daemon

    playback = playback_of(parsed)
    paths = paths_from(os.environ)
    config = with_listening(with_interval(load_config(parsed.config, paths), parsed.interval), parsed)
    socket = Path(parsed.socket).absolute() if parsed.socket else None
    parts = Parts(playback=playback)
    return run_daemon(config, paths, socket=socket, owned=parsed.owned, verbose=parsed.verbose, parts=parts)


async def show_status(client: Client, as_json: bool, verbose: bool = False) -> int:
    """Print the daemon's own state; *verbose*: also why each worker computes as it does."""
    status = await client.status()
    if as_json:
        print_json(to_wire(status))
        return 0
    print(
        f"hwdash {status.version}, pid {status.pid}, up {duration_text(status.uptime_s)}, every {status.interval_s:g} s"
    )
    print(f"socket {status.socket}, " + (f"listening on {status.listen}" if status.listen else "not on the network"))
    if status.workers:
        print(_workers_text(status.workers, verbose))
    if status.admission:
        print(_admission_text(status.admission))
    for problem in status.problems:
        print(f"problem: {problem}")
    return 0


def _workers_text(workers: Sequence[WorkerStatus], verbose: bool) -> str:
    """The workers, then what went wrong with one, and with *verbose* how its model lies there."""
    rows = [
        (
            worker.device,
            worker.model,
            str(worker.state).replace("_", " "),
            str(worker.pid or "-"),
            worker.dtype or "-",
            worker.decoder or "-",
            str(worker.running),
            str(worker.queued),
        )
        for worker in workers
    ]
    header = ("DEVICE", "MODEL", "STATE", "PID", "DTYPE", "DECODER", "RUN", "WAIT")
    told = [
        f"{worker.device}: {worker.model}: {words}"
        for worker in workers
        for words in (worker.problem, *(_choices(worker) if verbose else ()))
        if words
    ]
    return "\n".join([table_text(header, rows, right=frozenset({6, 7})), *told])


def _choices(worker: WorkerStatus) -> Sequence[str]:
    held = () if worker.memory_bytes is None else (f"{bytes_text(worker.memory_bytes)} of weights",)
    return (*held, *worker.choices)


def _admission_text(admission: Sequence[AdmissionStatus]) -> str:
    """What goes to each device, then what a model cannot do on one."""
    rows = [
        (
            item.device,
            str(item.running),
            str(item.waiting),
            str(item.limit),
            str(item.breaker).replace("_", " "),
            "; ".join(words for words in (item.why, item.problem) if words),
        )
        for item in admission
    ]
    header = ("DEVICE", "RUNNING", "WAITING", "AT ONCE", "BREAKER", "WHY")
    verdicts = [f"{item.device}: {verdict}" for item in admission for verdict in item.verdicts]
    return "\n".join([table_text(header, rows, right=frozenset({1, 2, 3})), *verdicts])


async def _stop(client: Client) -> int:
    watchers = 0
    with contextlib.suppress(HwdashError):  # what cannot say how it is can be stopped all the same
        watchers = (await client.status()).watchers
    await client.stop()
    print("stopped; an open dashboard starts a daemon of its own" if watchers else "stopped")
    return 0
