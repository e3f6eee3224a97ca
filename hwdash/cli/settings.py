"""From flags, environment and file to the settings that a command runs with."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from hwdash.cli.playback import playing
from hwdash.client.client import Client
from hwdash.client.launch import connect
from hwdash.core.config import Config, override_from_environment, parse_config
from hwdash.core.errors import UsageError
from hwdash.core.paths import Paths, paths_from

SYSTEM_CONFIG = Path("/etc/hwdash/config.toml")


def load_config(explicit: str | None, paths: Paths) -> Config:
    """The configuration by precedence: environment over the first file there is over defaults.

    Raises `UsageError` for a missing explicit file, an unreadable file, and any mistake in file or environment.
    """
    config = Config()
    candidates = [Path(explicit)] if explicit else [paths.config / "config.toml", SYSTEM_CONFIG]
    for path in candidates:
        try:
            config = parse_config(path.read_text(encoding="utf-8"), str(path), os.environ)
            break
        except FileNotFoundError:
            if explicit:
                raise UsageError(f"no such configuration file: {path}", param="config") from None
        except UnicodeDecodeError:
            raise UsageError(f"{path}: not UTF-8 text", param="config") from None
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}", param="config") from None
    return override_from_environment(config, os.environ)


def client_for(parsed: argparse.Namespace, *, launch: bool = True, daemon_arguments: Sequence[str] = ()) -> Client:
    """The client that the common options ask for; with *launch* it starts a daemon where there is none."""
    if parsed.socket and parsed.connect:
        raise UsageError("--socket and --connect exclude each other")
    arguments = list(daemon_arguments)
    if parsed.config:
        arguments += ["--config", str(Path(parsed.config).absolute())]
    if parsed.verbose:
        arguments.append("--verbose")
    return connect(
        paths_from(os.environ),
        socket=Path(parsed.socket).absolute() if parsed.socket else None,
        url=parsed.connect,
        token=os.environ.get("HWDASH_TOKEN"),
        launch=launch,
        daemon_args=arguments,
    )


def with_client(
    parsed: argparse.Namespace,
    command: Callable[[Client], Awaitable[int]],
    *,
    launch: bool = True,
    daemon_arguments: Sequence[str] = (),
) -> int:
    """Run *command* with a client and close it whatever happens."""
    # Also where the command itself needs nothing of it: a mistake in the configuration is told at once.
    load_config(parsed.config, paths_from(os.environ))

    async def run() -> int:
        client = client_for(parsed, launch=launch or bool(replay), daemon_arguments=[*daemon_arguments, *replay])
        try:
            return await command(client)
        finally:
            await client.close()

    with playing(parsed) as replay:
        return asyncio.run(run())
