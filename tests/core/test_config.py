"""Configuration text becomes values or one line that says where the mistake is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.config import Config, override_from_environment, parse_config
from hwdash.core.errors import UsageError


def test_defaults_and_values() -> None:
    assert parse_config("", "f") == Config()
    config = parse_config('[monitor]\ninterval_s = 2\n[engine]\nprewarm = ["m@gpu0"]\n', "f")
    assert config.monitor.interval_s == 2.0
    assert config.engine.prewarm == ("m@gpu0",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[monitor]\n\nintervall_s = 2\n", "f:3: unknown key monitor.intervall_s; there are: interval_s"),
        ("[monitor]\ninterval_s = 0.01\n", "f:2: monitor.interval_s must be between 0.1 and 60, not 0.01"),
        ('[monitor]\ninterval_s = "1s"\n', "f:2: monitor.interval_s must be a number, not '1s'"),
        ("[monitor]\ninterval_s = nan\n", "f:2: monitor.interval_s must be between"),
        ("[engine]\nmax_queue = true\n", "f:2: engine.max_queue must be a whole number, not True"),
        ("[engine]\nprewarm = 3\n", "f:2: engine.prewarm must be a list of strings"),
        ("\n[tui]\n", r"f:2: unknown section \[tui\]; there are: monitor"),
        ("monitor = 3\n", "f:1: monitor must be a section"),
        ("monitor.intervall_s = 3\n", "f:1: unknown key monitor.intervall_s"),
        ("[monitor\n", "f: .*line 1"),
    ],
)
def test_mistakes_name_file_line_and_key(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_config(text, "f")
    assert caught.value.exit_code == 2
    assert "\n" not in caught.value.message


def test_environment_lies_over_the_file() -> None:
    config = override_from_environment(
        Config(),
        {
            "HWDASH_MONITOR__INTERVAL_S": "5",
            "HWDASH_ENGINE__PREWARM": "a, b@gpu0",
            "HWDASH_DASHBOARD__ASCII": "true",
            "HWDASH_TOKEN": "x",
        },
    )
    assert config.monitor.interval_s == 5.0
    assert config.engine.prewarm == ("a", "b@gpu0")
    assert config.dashboard.ascii


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "HWDASH_MONITOR__INTERVAL_S",
            "fast",
            "HWDASH_MONITOR__INTERVAL_S: monitor.interval_s must be a number, not 'fast'",
        ),
        ("HWDASH_MONITOR__SPEED", "1", "HWDASH_MONITOR__SPEED: unknown key monitor.speed"),
        ("HWDASH_MONITER__INTERVAL_S", "1", "HWDASH_MONITER__INTERVAL_S: unknown section"),
    ],
)
def test_mistakes_in_the_environment_name_the_variable(name: str, value: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        override_from_environment(Config(), {name: value})


@given(st.text())
def test_any_text_is_a_config_or_a_usage_error(text: str) -> None:
    try:
        parse_config(text, "f")
    except UsageError as error:
        assert error.message.startswith("f")
