"""``hwdash`` without a command: the dashboard, or one table as text."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from hwdash.cli.devices import show_devices
from hwdash.cli.playback import add_playback, playing
from hwdash.cli.service import with_interval
from hwdash.cli.settings import client_for, load_config, with_client
from hwdash.client.client import Client
from hwdash.core.config import DEFAULT_THEME, Config
from hwdash.core.errors import DaemonUnreachable, UsageError
from hwdash.core.paths import paths_from


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the dashboard's options to the top-level parser."""
    group = parser.add_argument_group("dashboard")
    group.add_argument("--theme", metavar="NAME", help="colour theme; `--theme list` names them")
    group.add_argument("--interval", type=float, metavar="SEC", help="seconds between two samples, 0.1 to 60")
    group.add_argument("--ascii", action="store_true", help="draw with ASCII characters only")
    group.add_argument("--once", action="store_true", help="print one table as text, then exit")
    add_playback(parser)
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    with playing(parsed) as arguments:
        return _show(parsed, arguments)


def _show(parsed: argparse.Namespace, arguments: Sequence[str]) -> int:
    """The dashboard or the table, of a daemon that is started with *arguments*, those of a replay, if need be."""
    paths = paths_from(os.environ)
    config = with_interval(load_config(parsed.config, paths), parsed.interval)
    arguments = arguments or ["--interval", f"{config.monitor.interval_s:g}"]
    if parsed.interval is not None:
        _check_rhythm(parsed, parsed.interval)
    if parsed.once:
        return with_client(parsed, lambda client: show_devices(client, as_json=False), daemon_arguments=arguments)
    theme = parsed.theme or config.dashboard.theme
    if theme != DEFAULT_THEME:
        from hwdash.tui.theme import check_theme, theme_names

        if theme == "list":
            print("\n".join(theme_names(paths.config)))
            return 0
        check_theme(theme, paths.config)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("the dashboard needs a terminal; for one table as text use: hwdash --once")
    return _open(parsed, config, theme, arguments)


def _check_rhythm(parsed: argparse.Namespace, interval_s: float) -> None:
    """Raises `UsageError` when a daemon already runs at another interval, which is not this user's alone to change."""

    async def check(client: Client) -> int:
        status = await client.status()
        if status.interval_s != interval_s:
            raise UsageError(
                f"a daemon already runs and reads every {status.interval_s:g} s; leave out --interval, "
                "or end that daemon first with: hwdash stop",
                param="interval",
            )
        return 0

    with contextlib.suppress(DaemonUnreachable):
        with_client(parsed, check, launch=False)


def _open(parsed: argparse.Namespace, config: Config, theme: str, arguments: Sequence[str]) -> int:
    """Open the dashboard and stay until it is closed; a daemon started for it ends with it."""
    # Textual reads this once, when it is imported: over SSH an animation is only more bytes.
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    from hwdash.tui.app import HwdashApp

    ascii_only = parsed.ascii or config.dashboard.ascii or "utf" not in sys.stdout.encoding.lower()
    client = client_for(parsed, daemon_arguments=arguments)
    app = HwdashApp(client, replace(config.dashboard, theme=theme, ascii=ascii_only), config.engine.model)

    async def stay() -> int:
        try:
            await app.run_async()
        finally:
            await client.close()
        return app.return_code or 0

    return asyncio.run(stay())
