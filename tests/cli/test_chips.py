"""``hwdash chips`` as a user runs it: no daemon, a tree of files, profiles that are right, wrong and hostile."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hwdash.cli.main import main
from hwdash.sources.chips.quantity import metric_names

SYSFS = Path(__file__).parents[2] / "sample_data" / "sysfs"
PROFILE = """\
schema = 1
profile = { id = "acme", vendor = "ACME", kind = "npu" }
match = { roots = ["/sys/class/acme/acme*"] }
identity = { name = { path = "model" }, key = { path = "serial" } }

[metrics]
temperature_c = { path = "temp", unit = "m°C" }
power_w = { path = "power", unit = "mW" }
"""

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("HWDASH_SYSROOT", str(tmp_path))


@pytest.fixture
def chip(tmp_path: Path) -> Path:
    """The directory of a chip below *tmp_path*, which is the sysroot."""
    folder = tmp_path / "sys" / "class" / "acme" / "acme0"
    folder.mkdir(parents=True)
    for name, text in (("model", "ACME A1"), ("serial", "A1-7"), ("temp", "61500"), ("power", "43000")):
        (folder / name).write_text(f"{text}\n")
    return folder


def written(folder: Path, text: str = PROFILE, name: str = "acme.toml") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return str(folder / name)


def as_user(tmp_path: Path, text: str = PROFILE, name: str = "acme.toml") -> str:
    return written(tmp_path / "XDG_CONFIG_HOME" / "hwdash" / "chips", text, name)


def listed(capsys: Captured) -> dict[str, Any]:
    assert main(["chips", "list", "--json"]) == 0
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    return data


def test_list_names_every_built_in_profile_and_counts_devices(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWDASH_SYSROOT", str(SYSFS / "tenstorrent-p150a-n300"))
    assert main(["chips", "list"]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()[1:]}
    assert rows["tenstorrent"][-3:] == ["2", "built", "in"]
    assert rows["google-tpu"][-4:] == ["tpu", "0", "built", "in"]
    assert len(rows) == 11


def test_list_has_the_users_profiles(chip: Path, tmp_path: Path, capsys: Captured) -> None:
    path = as_user(tmp_path)
    profiles = {profile["id"]: profile for profile in listed(capsys)["profiles"]}
    assert profiles["acme"] == {
        "id": "acme", "vendor": "ACME", "kind": "npu", "origin": path, "builtin": False,
        "folders": ["/sys/class/acme/acme0"],
    }  # fmt: skip
    assert profiles["gaudi"]["builtin"]
    assert main(["chips", "list"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("acme"))
    assert row.split() == ["acme", "ACME", "npu", "1", path]


def test_list_tells_of_a_broken_profile_with_its_line_and_keeps_the_others(tmp_path: Path, capsys: Captured) -> None:
    as_user(tmp_path)
    path = as_user(tmp_path, PROFILE.replace("power_w", "powr_w"), "broken.toml")
    assert main(["chips", "list"]) == 0
    out = capsys.readouterr()
    assert f"{path}:8: metrics.powr_w" in out.err
    assert "\nacme " in out.out
    assert listed(capsys)["problems"][0].startswith(f"{path}:8: ")


def test_a_users_profile_takes_the_place_of_a_built_in_one(tmp_path: Path, capsys: Captured) -> None:
    path = as_user(tmp_path, PROFILE.replace('"acme", vendor', '"gaudi", vendor'))
    gaudi = [profile for profile in listed(capsys)["profiles"] if profile["id"] == "gaudi"]
    assert [(profile["builtin"], profile["origin"]) for profile in gaudi] == [(False, path)]


def test_check_prints_each_value_and_its_file(chip: Path, tmp_path: Path, capsys: Captured) -> None:
    (chip / "power").unlink()
    assert main(["chips", "check", written(tmp_path)]) == 0
    out = capsys.readouterr()
    lines = {tuple(line.split()[:2]): line.split(maxsplit=2)[2:] for line in out.out.splitlines() if line}
    assert out.out.splitlines()[2] == "ACME A1 at /sys/class/acme/acme0"
    assert lines["identity", "key"] == ["acme:A1-7"]
    assert lines["metric", "temperature_c"][0].split() == ["61.5", "°C", "'61500'", "/sys/class/acme/acme0/temp"]
    words = "n/a: not supported /sys/class/acme/acme0/power: there is no such file"
    assert " ".join(lines["metric", "power_w"][0].split()) == words
    assert out.err == ""


def test_check_as_json(chip: Path, tmp_path: Path, capsys: Captured) -> None:
    (chip / "power").write_text("much")
    assert main(["chips", "check", written(tmp_path), "--json"]) == 0
    out = capsys.readouterr()
    (instance,) = json.loads(out.out)["instances"]
    found = {finding["name"]: finding for finding in instance["findings"]}
    assert (found["temperature_c"]["value"], found["temperature_c"]["text"]) == (61.5, "61.5 °C")
    assert (found["temperature_c"]["raw"], found["power_w"]["why"]) == ("'61500'", "'much' is not a number")
    assert (found["power_w"]["absent"], found["power_w"]["path"]) == ("bad_value", "/sys/class/acme/acme0/power")
    assert instance["device"]["key"] == "acme:A1-7"


def test_check_gives_the_rate_of_a_counter(chip: Path, tmp_path: Path, capsys: Captured) -> None:
    (chip / "energy").write_text("5000")
    text = PROFILE.replace(
        'power_w = { path = "power", unit = "mW" }', 'power_w = { path = "energy", type = "counter", unit = "uJ" }'
    )
    assert main(["chips", "check", written(tmp_path, text), "--json"]) == 0
    (instance,) = json.loads(capsys.readouterr().out)["instances"]
    assert {finding["name"]: finding.get("value") for finding in instance["findings"]}["power_w"] == 0.0


def test_a_profile_that_matches_nothing_is_exit_1_and_says_why(tmp_path: Path, capsys: Captured) -> None:
    path = written(tmp_path)
    assert main(["chips", "check", path]) == 1
    assert capsys.readouterr().err == (
        f"hwdash: {path} is valid, and it finds nothing: there is no directory /sys/class/acme/acme*\n"
    )


def test_a_requirement_that_fails_is_named(chip: Path, tmp_path: Path, capsys: Captured) -> None:
    text = PROFILE.replace('acme*"]', 'acme*"], require = [{ path = "model", equals = "ACME B2" }]')
    assert main(["chips", "check", written(tmp_path, text)]) == 1
    err = capsys.readouterr().err
    assert "1 directory has the right name (/sys/class/acme/acme0), and none satisfies [match] require" in err


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('path = "temp"', 'file = "temp"', 7, "file"),
        ('unit = "m°C"', 'unit = "mW"', 7, "unit of power, not of temperature"),
        ('unit = "m°C"', 'unit = "degrees"', 7, "no unit that is known"),
        ('"temp",', "\"temp\", parse = { regex = '(' },", 7, "not a regular expression"),
        ('"temp",', "\"temp\", parse = { regex = '(a+)+b' },", 7, "repeat"),
        ('"/sys/class/acme/acme*"', '"/etc/*"', 3, "does not lie below /sys or /proc/driver"),
        ('path = "temp"', 'path = "/etc/shadow"', 7, "does not lie below /sys or /proc/driver"),
        ('path = "temp"', 'path = "{hwmon}/temp1_input"', 7, "needs the anchor hwmon"),
        ('kind = "npu"', 'kind = "toaster"', 2, "kind"),
        ("schema = 1", "schema = 2", 1, "schema"),
        ("schema = 1", "schema = ", 1, "no TOML"),
        ("power_w =", "horse_power =", 8, "no metric that is known"),
    ],
)
def test_a_wrong_profile_is_exit_2_with_file_and_line(
    old: str, new: str, line: int, words: str, tmp_path: Path, capsys: Captured
) -> None:
    assert old in PROFILE
    path = written(tmp_path, PROFILE.replace(old, new))
    assert main(["chips", "check", path]) == 2
    out = capsys.readouterr()
    assert out.out == ""
    first = out.err.splitlines()[0]
    assert first.startswith(f"{path}:{line}: ")
    assert words in out.err


def test_all_mistakes_are_told_at_once(tmp_path: Path, capsys: Captured) -> None:
    text = PROFILE.replace('"m°C"', '"mW"').replace("power_w", "powr").replace('kind = "npu"', 'kynd = "npu"')
    path = written(tmp_path, text)
    assert main(["chips", "check", path]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert {line.removeprefix(f"{path}:").split(":")[0] for line in lines} == {"2", "7", "8"}
    assert main(["chips", "check", path, "--json"]) == 2
    data = json.loads(capsys.readouterr().out)
    assert [problem["line"] for problem in data["problems"]] == sorted(int(line.split(":")[1]) for line in lines)


def test_a_link_that_leads_out_of_sys_is_not_followed(chip: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "secret").write_text("61500")
    (chip / "temp").unlink()
    (chip / "temp").symlink_to(tmp_path / "etc" / "secret")
    assert main(["chips", "check", written(tmp_path), "--json"]) == 0
    (instance,) = json.loads(capsys.readouterr().out)["instances"]
    found = {finding["name"]: finding for finding in instance["findings"]}
    assert "value" not in found["temperature_c"]
    assert found["temperature_c"]["why"] == "the link leads to /etc/secret, outside /sys and /proc/driver"
    assert found["power_w"]["value"] == 43.0


def test_a_device_that_is_a_link_out_of_sys_is_none(tmp_path: Path, capsys: Captured) -> None:
    outside = tmp_path / "home" / "acme0"
    outside.mkdir(parents=True)
    (outside / "temp").write_text("61500")
    (tmp_path / "sys" / "class" / "acme").mkdir(parents=True)
    (tmp_path / "sys" / "class" / "acme" / "acme0").symlink_to(outside)
    assert main(["chips", "check", written(tmp_path)]) == 1
    assert "61" not in capsys.readouterr().out


def test_names_from_files_cannot_steer_the_terminal(chip: Path, tmp_path: Path, capsys: Captured) -> None:
    (chip / "model").write_text("\x1b[31m[red]A1\x1b]0;x\x07\n")
    assert main(["chips", "check", written(tmp_path)]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "/does/not/exist.toml"], "there is no such file"),
        (["check", "/"], "not a plain file"),
        (["check", "x.toml", "--sysroot", "/does/not/exist"], "is not a directory"),
        (["check"], "FILE"),
        ([], "VERB"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(arguments: list[str], words: str, capsys: Captured) -> None:
    assert main(["chips", *arguments]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["-v", "chips", "list"], ["chips", "-v", "list"], ["chips", "list", "-v"]])
def test_verbose_is_taken_before_and_after_the_verb(arguments: list[str], capsys: Captured) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""


def test_check_takes_verbose_too(chip: Path, tmp_path: Path) -> None:
    assert main(["chips", "check", "-v", written(tmp_path)]) == 0


def test_the_profiles_of_the_page_are_valid_and_find_its_chip(chip: Path, tmp_path: Path, capsys: Captured) -> None:
    page = (Path(__file__).parents[2] / "docs" / "chips.md").read_text()
    profiles = [text for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if text.startswith("schema")]
    assert len(profiles) == 2
    (chip / "clock").write_text("1200")
    for text in profiles:
        assert main(["chips", "check", written(tmp_path, text)]) == 0, capsys.readouterr().err


def test_the_page_names_every_metric_that_a_profile_can_fill() -> None:
    page = (Path(__file__).parents[2] / "docs" / "chips.md").read_text()
    assert [name for name in metric_names() if f"`{name}`" not in page] == []


def test_neither_a_server_nor_a_dashboard_is_loaded() -> None:
    code = (
        "import sys; from hwdash.cli.main import main; main(['chips', 'list']);"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stderr.split()) & {"fastapi", "uvicorn", "pydantic", "textual", "torch", "pynvml", "aiosqlite"}
