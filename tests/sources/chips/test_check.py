"""What a check says of each part of a profile: the raw text of a value, and why there is none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwdash.core.clock import ManualClock
from hwdash.core.reading import Absent
from hwdash.sources.chips.check import examine
from hwdash.sources.chips.finding import Finding, exact_text
from hwdash.sources.chips.loader import parse_profile
from hwdash.sources.chips.quantity import Dimension
from tests.sources.chips.tree import HEAD, grow

DEVICE = "sys/class/toy/toy0"


def checked(root: Path, rules: str, files: dict[str, str | bytes | None]) -> dict[str, Finding]:
    """The findings at the one device that has *files*, by kind and name."""
    grow(root, {f"{DEVICE}/{name}": content for name, content in ({"here": "1"} | files).items()})
    (instance,) = examine(parse_profile(HEAD + rules, "x.toml"), root, ManualClock())
    assert instance.problem == ""
    return {f"{finding.kind} {finding.name}": finding for finding in instance.findings}


def power(root: Path, rule: str, content: str | bytes | None = None) -> Finding:
    """What is found of a metric ``power_w`` in the file ``p``."""
    unit = "" if "unit" in rule else ', unit = "W"'
    return checked(root, f'[metrics]\npower_w = {{ path = "p"{unit}{rule} }}\n', {"p": content})["metric power_w"]


@pytest.mark.parametrize(
    ("content", "rule", "absent", "why"),
    [
        (None, "", Absent.NOT_SUPPORTED, "there is no such file"),
        ("Zork Z9", "", Absent.BAD_VALUE, "'Zork Z9' is not a number"),
        ("45 W", "", Absent.BAD_VALUE, "'45 W' is not a number; parse = \"first_token\" takes its first word"),
        ("0x1f", "", Absent.BAD_VALUE, "'0x1f' is not a number; \"hex\" reads it"),
        ("1.5", ', parse = "int"', Absent.BAD_VALUE, "'1.5' is not a whole number"),
        ("zz", ', parse = "hex"', Absent.BAD_VALUE, "'zz' is not a hexadecimal number"),
        ("high", ", map = { low = 1 }", Absent.BAD_VALUE, "'high' is not a number, nor a word of its map"),
        ("80000000", "", Absent.BAD_VALUE, "8e+07 W is not plausible; is the unit right?"),
        ("-1", "", Absent.BAD_VALUE, "-1 W is not plausible; is the unit right?"),
        ("255", ", sentinels = [255]", Absent.BAD_VALUE, "'255' stands for no value (sentinels)"),
        ("300", ", valid = [0, 200]", Absent.BAD_VALUE, "'300' is not within valid = [0, 200]"),
        ("\n", "", Absent.BAD_VALUE, "the file is empty"),
        ("b: 1", ', parse = { kv = "a" }', Absent.NOT_SUPPORTED, "there is no line 'a:' in it"),
        ("a:", ', parse = { kv = "a" }', Absent.BAD_VALUE, "'a' has no value in it"),
        ("1,2", ', parse = { csv = 4 }', Absent.BAD_VALUE, "there is no column 4 in '1,2'"),
        ("{", ', parse = { json = "/a" }', Absent.BAD_VALUE, "it is no JSON: '{'"),
        ('{"b": 1}', ', parse = { json = "/a" }', Absent.NOT_SUPPORTED, "there is no number or text at /a in it"),
        ("x", ", parse = { regex = '([0-9]+)' }", Absent.BAD_VALUE, "the regular expression finds nothing in 'x'"),
        ("INVALID,1", ', parse = { csv = 1 }, guard = { csv = 0, equals = "VALID" }', Absent.BAD_VALUE,
         "its guard does not hold: it says 'INVALID'"),
        ("7", ', guard = { path = "q", equals = "on" }', Absent.NOT_SUPPORTED,
         "its guard cannot be read: there is no such file"),
        ("-> /etc/shadow", "", Absent.ERROR, "the link leads to /etc/shadow, outside /sys and /proc/driver"),
        ("-> p", "", Absent.ERROR, "links in a circle"),
        ("-> gone", "", Absent.NOT_SUPPORTED, "the link leads to /sys/class/toy/toy0/gone, which is not there"),
        ("1\x1b[31m" + "x" * 200, "", Absent.BAD_VALUE, f"'1\N{REPLACEMENT CHARACTER}[31m{'x' * 33}…' is not a number"),
    ],
)  # fmt: skip
def test_why_a_metric_is_absent(tmp_path: Path, content: str | None, rule: str, absent: Absent, why: str) -> None:
    found = power(tmp_path, rule, content)
    assert (found.absent, found.why, found.raw, found.path) == (absent, why, "", f"/{DEVICE}/p")


def test_what_is_no_plain_file_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / DEVICE / "p").mkdir(parents=True)
    assert power(tmp_path, "").why == "a directory, not a plain file"
    (tmp_path / DEVICE / "p").rmdir()
    os.mkfifo(tmp_path / DEVICE / "p")
    rules = '[metrics]\npower_w = { path = "p", unit = "W" }\n'
    assert checked(tmp_path, rules, {})["metric power_w"].why == "a named pipe, not a plain file"


@pytest.mark.parametrize(
    ("number", "absent", "why"),
    [
        (errno.EACCES, Absent.NO_PERMISSION, "no permission"),
        (errno.EPERM, Absent.NO_PERMISSION, "no permission"),
        (errno.EIO, Absent.ERROR, "the driver answers: Input/output error"),
    ],
)
def test_what_the_driver_answers_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, absent: Absent, why: str
) -> None:
    really = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if path.endswith("toy0/p"):
            raise OSError(number, os.strerror(number), path)
        return really(path, flags, mode)

    grow(tmp_path, {f"{DEVICE}/p": "1"})
    monkeypatch.setattr("hwdash.sources.sysfs.os.open", refuse)
    found = checked(tmp_path, '[metrics]\npower_w = { path = "p", unit = "W" }\n', {})["metric power_w"]
    assert (found.absent, found.why) == (absent, why)


@pytest.mark.parametrize(
    ("path", "more", "why"),
    [
        ("powr", "", "there is no such file; did you mean power?"),
        ("stats/power", "", "there is no directory /sys/class/toy/toy0/stats"),
        ("../../../../etc/shadow", "", "the path leads to /etc/shadow, outside /sys and /proc/driver"),
        ("{hwmon}/power", "", "the anchor hwmon was not found"),
        ("{read:power}x", "", "there is no such file"),
        ("{read:nothing}/x", "", "nothing has no name in it"),
        ("power*_input", "", "no file matches power*_input"),
        ("powe[r]", ', label = "core"', "no _label file says 'core'"),
    ],
)
def test_why_a_path_leads_nowhere(tmp_path: Path, path: str, more: str, why: str) -> None:
    rules = (
        '[anchors]\nhwmon = { glob = "hwmon*", optional = true }\n'
        f'[metrics]\npower_w = {{ path = "{path}", unit = "W"{more} }}\n'
    )
    assert checked(tmp_path, rules, {"power": "1"})["metric power_w"].why == why


def test_of_several_files_the_one_that_fails_is_named(tmp_path: Path) -> None:
    rules = '[metrics]\npower_w = { path = "p*", reduce = "sum", unit = "W" }\n'
    found = checked(tmp_path, rules, {"p0": "1", "p1": "bad", "p2": "3"})["metric power_w"]
    assert found.why == f"/{DEVICE}/p1: 'bad' is not a number"
    found = checked(tmp_path, rules, {"p0": "1", "p1": "2", "p2": "3"})["metric power_w"]
    assert (found.text, found.raw, found.why) == ("6 W", "'1' '2' '3'", "")


def test_a_sleeping_device_says_so(tmp_path: Path) -> None:
    rules = '[metrics]\npower_w = { path = "p", unit = "W" }\n[guard]\nskip_when = [{ path = "s", equals = "off" }]\n'
    found = checked(tmp_path, rules, {"s": "off"})
    assert found["metric power_w"].why == "it sleeps, see [guard]"


@pytest.mark.parametrize(
    ("content", "text", "raw", "why"),
    [
        ("ready", "ok", "'ready'", ""),
        ("reset", "resetting", "'reset'", ""),
        ("odd", "not in its map", "'odd'", ""),
        (None, "", "", "there is no such file"),
    ],
)
def test_the_status_is_a_part_too(tmp_path: Path, content: str | None, text: str, raw: str, why: str) -> None:
    rules = '[status]\npath = "s"\nmap = { ready = "ok", reset = "resetting" }\n'
    found = checked(tmp_path, rules, {"s": content})["status status"]
    assert (found.text, found.raw, found.why, found.path) == (text, raw, why, f"/{DEVICE}/s")


def test_limits_identity_memory_throttle_and_processes_say_why(tmp_path: Path) -> None:
    rules = """
identity = { name = { path = "nam" }, key = { path = "sn" }, vendor = "Toys" }
[metrics]
power_w = { path = "p_in", unit = "W", max = { suffix = "_max" } }
[limits]
temperature_slowdown_c = { path = "slow", unit = "m°C" }
temperature_shutdown_c = { path = "off", unit = "°C" }
clock_hz = "1500MHz"
[[memory]]
id = "m"
used = { path = "used", unit = "KiB" }
total = { path = "total", unit = "B" }
[[throttle]]
path = "flag"
id = "power_cap"
[processes]
pids = { path = "pids" }
"""
    files: dict[str, str | bytes | None] = {
        "p_in": "12.5",
        "slow": "x",
        "off": "90000",
        "used": "2048",
        "total": "1000",
        "flag": "y",
    }
    found = checked(tmp_path, rules, files)
    assert found["identity name"].why == "there is no such file"
    assert found["identity key"].why == "there is no such file; the directory's name stands in for it"
    assert "identity vendor" not in found
    assert found["limit temperature_slowdown_c"].why == "'x' is not a number"
    assert found["limit temperature_shutdown_c"].why == "90000 °C is not plausible; is the unit right?"
    assert found["limit power_w"].absent is Absent.NOT_SUPPORTED
    assert found["limit power_w"].why == "there is no such file"
    assert (found["limit clock_hz"].text, found["limit clock_hz"].note) == ("1500 MHz", "declared")
    assert (found["metric power_w"].text, found["metric power_w"].raw) == ("12.5 W", "'12.5'")
    assert found["memory m.used"].why == "2.00 MiB does not fit the other figures of the pool"
    assert found["memory m.total"].raw == "'1000'"
    assert found["throttle power_cap"].why == "'y' is not a number"
    assert found["processes pids"].why == "there is no such file"


@pytest.mark.parametrize(
    ("dimension", "value", "text"),
    [
        (Dimension.TEMPERATURE, 61.5, "61.5 °C"),
        (Dimension.TEMPERATURE, 60.0, "60 °C"),
        (Dimension.POWER, 12.5, "12.5 W"),
        (Dimension.POWER, 0.25, "0.25 W"),
        (Dimension.FREQUENCY, 1.2e9, "1200 MHz"),
        (Dimension.FREQUENCY, 1.2125e9, "1212.5 MHz"),
        (Dimension.RATIO, 0.475, "47.5%"),
    ],
)
def test_a_check_shows_one_digit_more(dimension: Dimension, value: float, text: str) -> None:
    assert exact_text(dimension, value) == text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(max_size=60),
    st.sampled_from(["", ', parse = { kv = "a" }', ', parse = { json = "/a" }', ', parse = "ints", reduce = "sum"']),
)
def test_every_text_is_explained_in_one_short_safe_line(tmp_path: Path, text: str, rule: str) -> None:
    found = power(tmp_path, rule, text.encode("utf-8", "surrogatepass"))
    assert (found.absent is None) == (found.why == "")
    for words in (found.why, found.raw):
        assert len(words) <= 240
        assert "\x1b" not in words
        assert "\n" not in words
