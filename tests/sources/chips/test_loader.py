"""A profile is taken as it is meant, or refused with every mistake at its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdash.sources.chips.loader import load_profiles, parse_profile, read_profile
from hwdash.sources.chips.table import ProfileError
from tests.sources.chips.examples import ALL
from tests.sources.chips.tree import HEAD


def problems_of(text: str) -> list[str]:
    with pytest.raises(ProfileError) as caught:
        parse_profile(text, "x.toml")
    return [str(problem) for problem in caught.value.problems]


def test_all_mistakes_at_once_with_their_lines() -> None:
    text = HEAD + (
        "[metrics]\n"
        'power = { path = "p", unit = "MHz" }\n'
        'clock_core = { path = "c", unit = "MHz", colour = 1 }\n'
        'wattage = { path = "c" }\n'
        'utilization = "u"\n'
        "[metrics.fan_rpm]\n"
        'path = "/etc/passwd"\n'
        'unit = "RPM"\n'
        "[[memory]]\n"
        'id = "a"\n'
        'used = { path = "{nowhere}/u", unit = "B" }\n'
        "[extra]\n"
    )
    found = problems_of(text)
    assert [int(problem.split(":")[1]) for problem in found] == [5, 6, 7, 8, 10, 14, 15]
    assert found[0].startswith("x.toml:5: metrics.power.unit MHz is a unit of frequency, not of power")
    assert "metrics.clock_core.colour is not known here" in found[1]
    assert "metrics.utilization must be a table, not 'u'" in found[3]
    assert "below /sys or /proc/driver" in found[4]
    assert "needs the anchor nowhere" in found[5]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ('[metrics]\npower = { path = "a" }', "has no unit; one of uW"),
        ('[metrics]\nclock_core = { path = "a", unit = "MHz", type = "counter" }', "growth of nothing"),
        ('[metrics]\npower = { path = "a", unit = "W", bits = 32 }', "is about counters"),
        ('[metrics]\npower = { path = "a", unit = "uJ", type = "counter", offset = 1 }', "means nothing"),
        ('[metrics]\nfan = { path = "a", unit = "%", max = { path = "b" } }', "only temperature"),
        ('[metrics]\npower = { path = "a", unit = "W" }\npower_w = { path = "a", unit = "W" }', "is the same metric"),
        ('[metrics]\ntemperature_c = { path = "a", unit = "m°C", max = 90 }', "90 m°C is not plausible: a bare number"),
        ('[metrics]\nclock_core = { path = "a", unit = "MHz", max = 0 }', "0 MHz is not plausible"),
        ('[metrics]\npower = { path = "a", unit = "uJ", type = "counter", max = 90 }', "in quotes with its unit"),
        (
            '[metrics]\npower = { first_of = [{ path = "a", unit = "W" }, { path = "b", unit = "mW" }], max = 9 }',
            "has no unit",
        ),
        ('[metrics]\npower = { path = "a", unit = "W", max = true }', "a quantity of power"),
        ('[metrics]\npower = { path = "a", paths = ["b"], unit = "W" }', "exclude each other"),
        ('[metrics]\npower = { unit = "W" }', "has no path"),
        ('[metrics]\npower = { path = "a", unit = "W", parse = { kv = "a", csv = 1 } }', "exactly one of kv"),
        ('[metrics]\npower = { path = "a", unit = "W", parse = { regex = "(a+)+" } }', "within a repeated group"),
        ('[metrics]\npower = { path = "a", unit = "W", parse = { regex = "a", group = 2 } }', "from 0 to 0"),
        ('[metrics]\npower = { path = "a", unit = "W", valid = [3, 1] }', "lowest, highest"),
        ('[metrics]\npower = { path = "a", unit = "W", min_interval = "soon" }', "stretch of time"),
        ('[metrics]\npower = { path = "a", unit = "W", slow = "yes" }', "must be true or false"),
        ('[metrics]\npower = { path = "a/**/b", unit = "W" }', "has **"),
        ('[metrics]\npower = { path = "a{hwmon}", unit = "W" }', "at its beginning"),
        ('[metrics]\npower = { path = "{read:/etc/passwd}", unit = "W" }', "no plain path"),
        ('[metrics]\npower = { path = "/sys/../etc/shadow", unit = "W" }', "does not lie below /sys or /proc/driver"),
        ('[metrics]\npower = { path = "/proc/driver/../self/environ", unit = "W" }', "does not lie below /sys"),
        ('[metrics]\npower = { path = "/sys/{instance}/../../etc/x", unit = "W" }', "does not lie below /sys"),
        ('[metrics]\npower = { path = "/sys/class/../../etc/x*", unit = "W" }', "does not lie below /sys"),
        ('[anchors]\netc = { path = "/sys/.." }', "does not lie below /sys"),
        ('[anchors]\ninstance = { link = "a" }', "no name for an anchor"),
        ('[anchors]\npci = { link = "a", glob = "b" }', "exactly one of link"),
        ('[[memory]]\nid = "a"\nused = "1GiB"', "cannot be declared"),
        ('[[memory]]\nid = "a"\ntotal = "1 W"', "a quantity of bytes"),
        ('[[memory]]\nid = "a"', "has none of used"),
        ('[[throttle]]\npath = "a"\nid = "strange"', "has no class"),
        ('[[throttle]]\npath = "a"\nid = "power_cap"\nclass = "thermal"', "of power_cap is power"),
        ('[[throttle]]\npath = "a"\nbits = { 99 = { id = "power_cap" } }', "no number of a bit"),
        ('[[throttle]]\npath = "a"\ndecoder = "none"', "must be one of"),
        ('[[memory]]\nid = "p\\u001b]0;owned\\u0007"\ntotal = "1GiB"', "5: memory[0].id must be letters, digits"),
        ('[[throttle]]\npath = "a"\nid = "\\u001b[31mred"\nclass = "other"', "6: throttle[0].id must be letters"),
        (
            '[[throttle]]\npath = "a"\nbits = { 1 = { id = "a b", class = "other" } }',
            "throttle[0].bits.1.id must be letters",
        ),
        ('[guard]\nskip_when = [{ path = "a" }]', "exactly one of exists"),
        ('[status]\npath = "a"\nmap = { x = "broken" }', "must be one of ok"),
        ('[runtime]\ntorch_device = "hpu"\nurl = "http://x"', "either torch_device or url"),
        ('[runtime]\nurl = "ftp://x"', "base URL"),
        ('[runtime]\nurl = "http://u:p@x"', "no password"),
        ('[runtime]\nurl = "http://256.1.1.1/v1"', "neither a name nor an address"),
        ('[runtime]\ntorch_device = "hpu"\nmodule = "os;x"', "module's name"),
        ('[runtime]\ntorch_device = "hpu"\nvisible_variable = "X_VISIBLE_DEVICES"', "together"),
        ('[identity]\nkey = { basename_of = "pci" }', "needs the anchor pci"),
        ('[thresholds]\nslowdown_c = "hot"', "a quantity of temperature"),
        ('[limits]\nmemory_bandwidth_bytes_per_s = "32GiB"', "a quantity of bytes per second"),
        ('[capabilities]\ndtypes = ["BF 16"]', "no precision"),
    ],
)
def test_mistakes_are_named(rules: str, words: str) -> None:
    found = problems_of(HEAD + rules)
    assert any(words in problem for problem in found), found


@pytest.mark.parametrize(
    ("rule", "limit"),
    [
        ('{ path = "a", unit = "°C", max = 90 }', 90.0),
        ('{ path = "a", unit = "m°C", max = 95500 }', 95.5),
        ('{ path = "a", unit = "m°C", max = "90°C" }', 90.0),
        ('{ first_of = [{ path = "a" }, { path = "b" }], unit = "m°C", max = 90000 }', 90.0),
    ],
)
def test_a_bare_limit_is_in_the_unit_of_its_metric(rule: str, limit: float) -> None:
    (metric,) = parse_profile(f"{HEAD}[metrics]\ntemperature_c = {rule}", "x.toml").metrics
    assert metric.limit is not None
    assert metric.limit.number is not None
    assert metric.limit.number.declared is not None
    assert metric.limit.number.declared.value == limit


@pytest.mark.parametrize("path", ["/sys/class/../bus/x", "../x", "../../{instance}/x", "/sys/{instance}/../x"])
def test_paths_may_climb_within_the_roots(path: str) -> None:
    assert parse_profile(f'{HEAD}[metrics]\npower = {{ path = "{path}", unit = "W" }}', "x.toml").metrics


@pytest.mark.parametrize(
    "variable",
    ["LD_PRELOAD", "OPENSSL_MODULES", "PYTHONPATH", "VISIBLE", "GCONV_PATH_DEVICE", "X_VISIBLE_DEVICES_PATH", "x", "é"],
)
def test_only_what_chooses_devices_is_set(variable: str) -> None:
    rules = f'[runtime]\ntorch_device = "hpu"\nvisible_variable = "{variable}"\nvisible_as = "x"\n'
    assert any("must be a variable that chooses devices" in problem for problem in problems_of(HEAD + rules))


@pytest.mark.parametrize(
    "variable",
    [
        "CUDA_VISIBLE_DEVICES",
        "HABANA_VISIBLE_MODULES",
        "NEURON_RT_VISIBLE_CORES",
        "TPU_VISIBLE_CHIPS",
        "TT_METAL_VISIBLE_DEVICES",
        "ZE_AFFINITY_MASK",
        "ONEAPI_DEVICE_SELECTOR",
        "RBLN_DEVICES",
    ],
)
def test_variables_of_vendors_are_taken(variable: str) -> None:
    rules = f'[runtime]\ntorch_device = "hpu"\nvisible_variable = "{variable}"\nvisible_as = "x"\n'
    assert parse_profile(HEAD + rules, "x.toml").computing is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must say schema = 1"),
        ("schema = 2", "schema must be 1"),
        ("schema = true", "schema must be 1"),
        ("schema = 1", "has no profile"),
        ("a = [", "no TOML"),
        ("a = " + "[" * 20_000, "no TOML"),
        ("a = " + "1" * 10_000, "no TOML"),
        ("# " + "x" * 70_000, "is longer than"),
        ('schema = 1\nprofile = { id = "Bad Id", vendor = "v", kind = "fridge" }', "must be one of gpu"),
        ('schema = 1\nmatch = { roots = ["/dev/*"] }', "below /sys"),
        ('schema = 1\nmatch = { roots = ["/sys/../etc/*"] }', "without ** and .."),
    ],
)
def test_texts_that_are_no_profiles(text: str, words: str) -> None:
    assert any(words in problem for problem in problems_of(text))


def test_a_file_that_is_too_long_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "long.toml").write_bytes(b"# " + b"\xc3\xa9" * 200_000)
    with pytest.raises(ProfileError, match="is longer than"):
        read_profile(tmp_path / "long.toml")


def test_too_many_metrics() -> None:
    entries = "".join(f'[[throttle]]\npath = "f{number}"\nid = "power_cap"\n' for number in range(201))
    assert any("list of at most 200" in problem for problem in problems_of(HEAD + entries))


PIECES = st.sampled_from(
    [
        '"',
        "'",
        "{",
        "}",
        "[",
        "]",
        "=",
        ".",
        ",",
        "\n",
        "0",
        "-1",
        "true",
        "1e400",
        "nan",
        '"x"',
        "[]",
        "{}",
        '[""]',
        "path",
        "unit",
        "\x00",
        "\ud7ff",
        "🙂",
        '"/etc"',
        '"{a}"',
        '"W"',
        "\\",
        "9" * 50,
        "1979-05-27",
        '"[["',
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(ALL)), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), PIECES), max_size=6))
def test_changed_profiles_are_taken_or_refused(name: str, changes: list[tuple[float, int, str]]) -> None:
    text = ALL[name]
    for where, length, piece in changes:
        start = int(where * len(text))
        text = text[:start] + piece + text[start + length :]
    try:
        parse_profile(text, "x.toml")
    except ProfileError as error:
        assert error.problems
        for problem in error.problems:
            assert 1 <= problem.line <= text.count("\n") + 2
            assert str(problem).isprintable()


VALUE = re.compile(r'= ("[^"\n]*"|[0-9]+|true|\[[^\]\n]*\])')


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(ALL)), st.data())
def test_values_of_other_types_are_taken_or_refused(name: str, data: st.DataObject) -> None:
    text = ALL[name]
    matches = list(VALUE.finditer(text))
    for match in sorted(
        data.draw(st.sets(st.sampled_from(matches), max_size=4)), key=lambda one: one.start(), reverse=True
    ):
        value = data.draw(
            st.sampled_from(
                ["1", "0", "-1.5", "inf", '""', '"a"', "true", "[]", "[1]", '["a"]', "{}", "{ a = 1 }", "[{}]"]
            )
        )
        text = text[: match.start(1)] + value + text[match.end(1) :]
    try:
        parse_profile(text, "x.toml")
    except ProfileError as error:
        assert error.problems


def test_a_users_profile_takes_the_place_of_a_built_in_one(tmp_path: Path) -> None:
    for folder in ("builtin", "user"):
        (tmp_path / folder).mkdir()
    (tmp_path / "builtin/toy.toml").write_text(HEAD)
    (tmp_path / "builtin/other.toml").write_text(HEAD.replace('"toy"', '"other"'))
    (tmp_path / "user/mine.toml").write_text(HEAD.replace("Toys", "Mine"))
    (tmp_path / "user/twice.toml").write_text(HEAD)
    (tmp_path / "user/broken.toml").write_text("schema = 1\nprofil = 1\n")
    (tmp_path / "user/binary.toml").write_bytes(b"schema = 1\n\xff\xfe\x00")
    (tmp_path / "user/folder.toml").mkdir()
    (tmp_path / "user/gone.toml").symlink_to("nowhere")
    profiles, sentences = load_profiles([tmp_path / "builtin", tmp_path / "user", tmp_path / "none"])
    assert {profile.id: profile.vendor for profile in profiles} == {"toy": "Mine", "other": "Toys"}
    assert any("broken.toml:2: profil is not known here" in sentence for sentence in sentences)
    assert any("twice.toml: toy is in mine.toml already" in sentence for sentence in sentences)
    assert any("binary.toml:2: is not UTF-8 text" in sentence for sentence in sentences)
    for name in ("binary", "folder", "gone"):
        assert any(f"{name}.toml" in sentence for sentence in sentences)
