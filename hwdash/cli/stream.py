"""The standard streams of a command, whatever it was started with."""

from __future__ import annotations

import io
import os
import sys


def prepare_streams() -> None:
    """Open a missing standard stream on the null device, so that nothing else gets its number; let text be printed
    in every encoding, with ``?`` for what that has no character for."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def abandon_stdout() -> None:
    """Write no more to stdout: what is left in its buffer must not fail a second time when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
