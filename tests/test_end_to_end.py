"""The program as a user meets it: commands, a real daemon, a real worker with a real (tiny) model."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.place import home, hwdash


@pytest.fixture
def environment(tiny_model: Path) -> Iterator[dict[str, str]]:
    with home(HWDASH_ENGINE__MODEL=str(tiny_model), HWDASH_MONITOR__INTERVAL_S="0.2") as place:
        yield place


@pytest.fixture
def daemon(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "hwdash", "daemon"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while hwdash(environment, "status").returncode != 0:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
    yield process
    if process.poll() is None:
        process.terminate()
    process.communicate(timeout=10)


def processes_below(environment: Mapping[str, str]) -> list[int]:
    """Every process that was started with this environment's state directory."""
    mark = f"XDG_STATE_HOME={environment['XDG_STATE_HOME']}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_a_command_brings_its_own_daemon_and_takes_it_away(environment: dict[str, str]) -> None:
    done = hwdash(environment, "devices", "--json")
    assert done.returncode == 0, done.stderr
    devices = json.loads(done.stdout)["devices"]
    cpu = next(device for device in devices if device["kind"] == "cpu")
    assert cpu["id"] == "cpu0"
    assert cpu["metrics"]["memory_total_bytes"] > 0
    assert not set(cpu["metrics"]) & set(cpu["absent"])
    assert processes_below(environment) == []
    assert hwdash(environment, "status").returncode == 4


def test_prompt_history_status_and_stop(environment: dict[str, str], daemon: subprocess.Popen[str]) -> None:
    status = json.loads(hwdash(environment, "status", "--json").stdout)
    assert status["pid"] == daemon.pid
    assert status["workers"] == []
    done = hwdash(environment, "prompt", "one two three", "--json", "--max-tokens", "8", "--device", "cpu0")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["device"] == "cpu0"
    assert answer["tokens"]["completion"] <= 8
    assert answer["timing"]["ttft_s"] > 0
    assert answer["timing"]["cold_start_s"] > 0
    again = hwdash(environment, "prompt", "one two three", "--json", "--max-tokens", "8")
    assert json.loads(again.stdout)["text"] == answer["text"]
    assert json.loads(again.stdout)["timing"].get("cold_start_s") is None
    history = json.loads(hwdash(environment, "history", "latency", "--format", "json").stdout)
    assert history["series"][0]["summary"]["requests"] == 2
    assert [worker["state"] for worker in json.loads(hwdash(environment, "status", "--json").stdout)["workers"]] == [
        "ready"
    ]
    assert hwdash(environment, "stop").returncode == 0
    assert daemon.wait(10) == 0
    assert processes_below(environment) == []


def test_prompt_text_is_on_no_disk(environment: dict[str, str], daemon: subprocess.Popen[str]) -> None:
    secret = "xyzzy-plugh"
    done = hwdash(environment, "prompt", secret, "--max-tokens", "4", "-v")
    assert done.returncode == 0, done.stderr
    assert hwdash(environment, "stop").returncode == 0
    daemon.wait(10)
    for path in Path(environment["HOME"]).rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def test_errors_have_their_codes(environment: dict[str, str], daemon: subprocess.Popen[str]) -> None:
    for arguments, code, words in (
        (("prompt", "hi", "--device", "gpu7"), 2, "gpu7"),
        (("prompt", "hi", "--model", "nobody/none"), 1, "hwdash models pull nobody/none"),
        (("prompt", "hi", "--model", "/nonexistent"), 1, "/nonexistent"),
        (("history", "latency", "--device", "gpu7"), 2, "gpu7"),
        (("models", "remove", "none"), 1, "none"),
        (("models", "pull", "../../etc"), 1, "../../etc"),
        (("daemon",), 4, "already runs"),
    ):
        done = hwdash(environment, *arguments)
        assert (done.returncode, done.stdout) == (code, ""), (arguments, done)
        assert words in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


def test_ctrl_c_cancels_and_frees_the_worker(environment: dict[str, str], daemon: subprocess.Popen[str]) -> None:
    command = [sys.executable, "-m", "hwdash", "prompt", "go on", "--max-tokens", "100000", "--temperature", "1"]
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    assert running.stdout.read(1)
    running.send_signal(signal.SIGINT)
    assert running.wait(10) == 130
    running.communicate()
    done = hwdash(environment, "prompt", "next", "--max-tokens", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["timing"]["queue_s"] < 5


def test_killing_the_owner_ends_daemon_and_worker(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "hwdash", "prompt", "go on", "--max-tokens", "100000", "--temperature", "1"]
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert running.stdout is not None
    assert running.stdout.read(1)
    running.kill()
    running.communicate()
    deadline = time.monotonic() + 15
    while processes_below(environment):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_socket_that_is_someone_else_s_is_refused(environment: dict[str, str]) -> None:
    directory = Path(environment["XDG_RUNTIME_DIR"]) / "hwdash"
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    done = hwdash(environment, "devices")
    assert done.returncode == 4
    assert "chmod 700" in done.stderr
    directory.chmod(0o700)
    (directory / "hwdash.sock").write_text("not a socket")
    done = hwdash(environment, "devices")
    assert done.returncode == 4
    assert "not a socket" in done.stderr


def test_a_stale_socket_is_replaced(environment: dict[str, str]) -> None:
    directory = Path(environment["XDG_RUNTIME_DIR"]) / "hwdash"
    directory.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(directory / "hwdash.sock"))
    done = hwdash(environment, "devices", "--json")
    assert done.returncode == 0, done.stderr
    assert list(directory.iterdir()) == []
