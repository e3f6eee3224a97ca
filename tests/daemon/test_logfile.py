"""The daemon's log: what is kept, and what others say too much of."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwdash.daemon.logfile import start_logging

CHATTY = ("httpx", "httpcore.http11", "httpcore.connection", "httpcore.proxy", "aiosqlite", "asyncio")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """A log that has been started; all loggers are as before afterwards."""
    root = logging.getLogger()
    names = ("asyncio", "aiosqlite", "uvicorn.error", "httpx", "httpcore")
    before = [(each, each.level) for each in (root, *map(logging.getLogger, names))]
    handlers, raising = list(root.handlers), logging.raiseExceptions
    yield tmp_path / "daemon.log"
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)
        handler.close()
    for each, level in before:
        each.setLevel(level)
    logging.raiseExceptions = raising


@pytest.mark.parametrize("verbose", [False, True])
def test_every_request_of_a_probe_is_no_news(log: Path, verbose: bool) -> None:
    assert start_logging(log, verbose=verbose, foreground=False) == ""
    for name in CHATTY:
        logging.getLogger(name).debug("%s: request", name)
        logging.getLogger(name).info("%s: request", name)
        logging.getLogger(name).warning("%s: trouble", name)
    logging.getLogger("hwdash.daemon").info("begins\x1b[31m")
    written = log.read_text()
    assert "request" not in written
    assert all(f"{name}: trouble" in written for name in CHATTY)
    assert "begins" in written
    assert "\x1b" not in written
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_log_that_cannot_be_written_is_said(log: Path) -> None:
    log.mkdir()
    assert "no log is written" in start_logging(log, verbose=False, foreground=False)
