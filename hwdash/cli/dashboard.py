"""``hwdash`` without a command: the dashboard, or one table as text."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from dataclasses import replace

from hwdash.cli.devices import show_devices
from hwdash.cli.service import with_interval
from hwdash.cli.settings import client_for, load_config, with_client
from hwdash.core.config import DEFAULT_THEME, Config
from hwdash.core.errors import UsageError
from hwdash.core.paths import paths_from


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the dashboard's options to the top-level parser."""
    group = parser.add_argument_group("dashboard")
    group.add_argument("--theme", metavar="NAME", help="colour theme; `--theme list` names them")
    group.add_argument("--interval", type=float, metavar="SEC", help="seconds between two samples, 0.1 to 60")
    group.add_argument("--ascii", action="store_true", help="draw with ASCII characters only")
    group.add_argument("--once", action="store_true", help="print one table as text, then exit")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    if parsed.once:
        return with_client(parsed, lambda client: show_devices(client, as_json=False))
    paths = paths_from(os.environ)
    config = with_interval(load_config(parsed.config, paths), parsed.interval)
    theme = parsed.theme or config.dashboard.theme
    if theme != DEFAULT_THEME:
        from hwdash.tui.theme import check_theme, theme_names

        if theme == "list":
            print("\n".join(theme_names(paths.config)))
            return 0
        check_theme(theme, paths.config)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("the dashboard needs a terminal; for one table as text use: hwdash --once")
    return _open(parsed, config, theme)


def _open(parsed: argparse.Namespace, config: Config, theme: str) -> int:
    """Open the dashboard and stay until it is closed; a daemon started for it ends with it."""
    # Textual reads this once, when it is imported: over SSH an animation is only more bytes.
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    from hwdash.tui.app import HwdashApp

    ascii_only = parsed.ascii or config.dashboard.ascii or "utf" not in sys.stdout.encoding.lower()
    client = client_for(parsed, daemon_arguments=["--interval", f"{config.monitor.interval_s:g}"])
    app = HwdashApp(client, replace(config.dashboard, theme=theme, ascii=ascii_only), config.engine.model)

    async def stay() -> int:
        try:
            await app.run_async()
        finally:
            await client.close()
        return app.return_code or 0

    return asyncio.run(stay())
