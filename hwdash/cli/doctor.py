"""``hwdash doctor``: what works on this machine, what does not, and what to do about it."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

from hwdash.cli.output import print_json
from hwdash.cli.settings import load_config, with_client
from hwdash.client.client import Client
from hwdash.core.check import Check, Verdict
from hwdash.core.config import Config
from hwdash.core.errors import DaemonUnreachable, HwdashError, UsageError
from hwdash.core.format import duration_text
from hwdash.core.paths import paths_from
from hwdash.core.wire import to_wire

_MARKS = {Verdict.SKIP: "-", Verdict.OK: "ok", Verdict.WARN: "WARN", Verdict.FAIL: "FAIL"}


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add ``doctor``."""
    parser = command("doctor", "what works on this machine, what does not, and what to do about it")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    from hwdash.daemon.doctor import examine, worst
    from hwdash.daemon.hardware import machine_sources

    paths = paths_from(os.environ)
    checks: list[Check] = []
    config = Config()
    try:
        config = load_config(parsed.config, paths)
    except UsageError as error:
        checks.append(Check("configuration", Verdict.FAIL, error.message, "correct it; the defaults are used here"))
    # What sources log is among the findings already.
    logging.getLogger("hwdash").addHandler(logging.NullHandler())
    checks += examine(config, paths, machine_sources(paths, config.engine.servers))
    checks += _daemon(parsed)
    verdict = worst(checks)
    if parsed.json:
        print_json({"verdict": max(verdict, Verdict.OK, key=tuple(Verdict).index), "checks": to_wire(tuple(checks))})
    else:
        print(doctor_text(checks))
    sys.stdout.flush()
    return 1 if verdict is Verdict.FAIL else 0


def _daemon(parsed: argparse.Namespace) -> list[Check]:
    """Whether a daemon runs, and what it has to complain of. None is started."""
    found: list[Check] = []

    async def ask(client: Client) -> int:
        status = await client.status()
        words = f"runs, pid {status.pid}, for {duration_text(status.uptime_s)}, every {status.interval_s:g} s"
        found.append(Check("daemon", Verdict.OK, words))
        found.extend(Check("daemon", Verdict.WARN, problem) for problem in status.problems)
        return 0

    try:
        with_client(parsed, ask, launch=False)
    except DaemonUnreachable:
        found.append(Check("daemon", Verdict.SKIP, "none runs; commands start one, and hwdash daemon keeps one"))
    except HwdashError as error:
        found.append(Check("daemon", Verdict.FAIL, error.message))
    return found


def doctor_text(checks: Sequence[Check]) -> str:
    """One line for each finding, what to do about it below, and a count at the end."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{_MARKS[check.verdict]:<4}  {check.name:<{width}}  {check.words}")
        if check.fix:
            lines.append(f"{'':<4}  {'':<{width}}  -> {check.fix}")
    bad = {verdict: sum(check.verdict is verdict for check in checks) for verdict in (Verdict.FAIL, Verdict.WARN)}
    words = [f"{bad[Verdict.FAIL]} failed", f"{bad[Verdict.WARN]} to look at"]
    lines.append("all is well" if not any(bad.values()) else ", ".join(words))
    return "\n".join(lines)
