"""Where hwdash keeps its files. Pure functions of the environment; nothing is created or read here."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Paths:
    """The places of the contract, each below its XDG base directory."""

    config: Path
    state: Path
    runtime: Path
    models: Path

    @property
    def socket(self) -> Path:
        """The daemon's Unix socket, inside a directory that only its owner may enter."""
        return self.runtime / "hwdash.sock"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.state / "hwdash.db"

    @property
    def log(self) -> Path:
        """The daemon's log; rotated copies stand beside it."""
        return self.state / "daemon.log"

    @property
    def lock(self) -> Path:
        """The file whose lock makes a second daemon for this state directory impossible."""
        return self.state / "daemon.lock"

    @property
    def tokens(self) -> Path:
        """The bearer tokens for TCP, as hashes."""
        return self.state / "tokens.json"


def paths_from(environ: Mapping[str, str]) -> Paths:
    """The places for this environment, by the XDG base directory specification.

    A relative XDG variable is ignored, as the specification asks. Without ``XDG_RUNTIME_DIR`` the socket lies in
    ``hwdash-<uid>`` below the temporary directory.
    """
    home = Path(environ.get("HOME") or Path.home())

    def base(variable: str, default: Path) -> Path:
        value = environ.get(variable, "")
        return Path(value) if value.startswith("/") else default

    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return Paths(
        config=base("XDG_CONFIG_HOME", home / ".config") / "hwdash",
        state=base("XDG_STATE_HOME", home / ".local" / "state") / "hwdash",
        runtime=Path(runtime) / "hwdash"
        if runtime.startswith("/")
        else Path(tempfile.gettempdir()) / f"hwdash-{os.getuid()}",
        models=base("XDG_CACHE_HOME", home / ".cache") / "hwdash" / "models",
    )


def why_not_private(path: Path, status: os.stat_result, uid: int) -> str | None:
    """What is wrong with *path* as a directory that only *uid* may enter, given its ``lstat``; None when it is safe."""
    if stat.S_ISLNK(status.st_mode):
        return f"{path} is a symbolic link; remove it"
    if not stat.S_ISDIR(status.st_mode):
        return f"{path} is not a directory; remove it"
    if status.st_uid != uid:
        return f"{path} belongs to user {status.st_uid}, not to you; choose another place with --socket"
    if status.st_mode & 0o077:
        own = path.name.startswith("hwdash")  # never talk anybody into closing /tmp or /etc
        advice = f"run: chmod 700 {path}" if own else "choose a directory of your own, mode 0700, with --socket"
        return f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}); {advice}"
    return None


def why_not_own_socket(path: Path, status: os.stat_result, uid: int) -> str | None:
    """What is wrong with *path* as a socket of *uid*, given its ``lstat``; None when it may be connected to."""
    if not stat.S_ISSOCK(status.st_mode):
        return f"{path} is not a socket; remove it or choose another place with --socket"
    if status.st_uid != uid:
        return f"{path} belongs to user {status.st_uid}, not to you; choose another place with --socket"
    return None
