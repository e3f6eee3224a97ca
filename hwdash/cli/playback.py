"""``--replay FILE`` and the flags beside it: a recording in the place of hardware."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hwdash.core.errors import UsageError

if TYPE_CHECKING:
    from hwdash.daemon.parts import Playback

_BESIDE = ("speed", "from_s")


def add_playback(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add ``--replay`` and the flags beside it, with *default* as what they are when they are not given."""
    group = parser.add_argument_group("replay")
    group.add_argument("--replay", metavar="FILE", default=default, help="play a recording, made with `hwdash record`")
    group.add_argument(
        "--speed", type=float, metavar="X", default=default, help="recorded seconds a second, 0.1 to 100"
    )
    group.add_argument("--loop", action="store_true", default=default or False, help="begin anew at the end")
    group.add_argument("--from", dest="from_s", type=float, metavar="SEC", default=default, help="begin there")


def playback_of(parsed: argparse.Namespace) -> Playback | None:
    """What the flags ask to play, checked; None without ``--replay``.

    Raises `UsageError` for a file that is no recording, a value out of bounds, and flags that make no sense together.
    """
    if parsed.replay is None:
        if parsed.loop or any(getattr(parsed, name) is not None for name in _BESIDE):
            raise UsageError("--speed, --loop and --from go with --replay FILE", param="replay")
        return None
    if parsed.connect:
        raise UsageError("--replay and --connect exclude each other", param="replay")
    if parsed.interval is not None:
        raise UsageError(
            "--interval has no meaning with --replay: a recording has its own; see --speed", param="replay"
        )
    from hwdash.daemon.parts import Playback
    from hwdash.daemon.replay import check_playback

    if not parsed.replay:
        raise UsageError("--replay: its value is empty; name a recording", param="replay")
    speed = 1.0 if parsed.speed is None else parsed.speed
    playback = Playback(Path(parsed.replay).absolute(), speed, parsed.loop, parsed.from_s or 0.0)
    check_playback(playback)
    return playback


@contextlib.contextmanager
def playing(parsed: argparse.Namespace) -> Iterator[Sequence[str]]:
    """With ``--replay``, *parsed* leads to a daemon of its own in a private place, which is deleted at the end.

    Gives the arguments that make such a daemon play; none without ``--replay``. Raises as `playback_of`.
    """
    playback = playback_of(parsed) if hasattr(parsed, "replay") else None
    if playback is None:
        yield ()
        return
    if parsed.socket:
        raise UsageError(
            "--replay and --socket exclude each other: a recording has a daemon of its own", param="replay"
        )
    place = Path(tempfile.mkdtemp(prefix="hwdash-replay-"))
    parsed.socket, parsed.replay = str(place / "hwdash.sock"), None
    parsed.speed, parsed.loop, parsed.from_s = None, False, None
    arguments = ["--replay", os.fspath(playback.path), "--speed", repr(playback.speed), "--from", repr(playback.from_s)]
    try:
        yield [*arguments, *(["--loop"] if playback.loop else [])]
    finally:
        shutil.rmtree(place, ignore_errors=True)
