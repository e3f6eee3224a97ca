"""Commands in a process of their own, with standard streams that are closed, full, or of another encoding."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SHOW = """
import sys
from hwdash.cli import main as cli
from hwdash.cli.output import print_json
import hwdash.cli.devices as devices
def show(parsed):
    print_json({"unit": "\\u00b0C"}) if parsed.json else print("\\u00b0C")
    return 0
devices.with_client = lambda parsed, *_: show(parsed)
sys.exit(cli.main(sys.argv[1:]))
"""


def run(redirection: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = f'exec "$0" -c "$CODE" "$@" {redirection}'
    variables = {**os.environ, "CODE": SHOW, **environment}
    shell = ["sh", "-c", command, sys.executable, *arguments]
    return subprocess.run(shell, check=False, env=variables, capture_output=True)


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(redirection: str) -> None:
    done = run(redirection, "devices")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_prompt_from_a_closed_stdin_is_empty() -> None:
    done = run("<&-", "prompt", "-")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"the prompt is empty" in done.stderr


@pytest.mark.parametrize("arguments", [("devices",), ("devices", "--json")])
def test_a_full_disk_is_one_line(arguments: tuple[str, ...]) -> None:
    done = run("> /dev/full", *arguments)
    assert done.returncode == 1
    assert done.stderr == b"hwdash: the result cannot be written: No space left on device\n"


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_text_in_an_ascii_locale() -> None:
    done = run("", "devices", **ASCII)
    assert (done.returncode, done.stdout) == (0, b"?C\n")


def test_json_is_utf8_in_an_ascii_locale() -> None:
    done = run("", "devices", "--json", **ASCII)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"unit": "°C"})
