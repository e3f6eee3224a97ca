"""Alert rules in the configuration: each mistake is one line with file, line and key."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.alert import AlertConfig, AlertRule
from hwdash.core.config import Config, override_from_environment, parse_config
from hwdash.core.errors import UsageError
from hwdash.core.event import AlertAction, Severity
from hwdash.core.health import HealthState
from hwdash.core.rule import webhook_problem

HOT = '[[alerts.rules]]\nname = "hot"\nmetric = "temperature_c"\nabove = 90\n'
FULL = """
[alerts]
webhook = "https://user:secret@example.com:8443/hook?token=x"

# told twice
[[alerts.rules]]
name = "HBM too hot"
metric = "memory_temperature_c"
above = 95
for_s = 30
every_s = 600
devices = ["gpu*", "nvidia:GPU-2aea*"]
severity = "critical"
actions = ["toast", "bell", "log", "webhook"]

[[alerts.rules]]
name = "slow"
state = "throttled"

[[alerts.rules]]
name = "little memory bandwidth"
metric = "memory_bandwidth_utilization"
below = 0.1
actions = []
"""


def test_rules_have_all_keys_or_their_defaults() -> None:
    assert parse_config(FULL, "f").alerts == AlertConfig(
        "https://user:secret@example.com:8443/hook?token=x",
        (
            AlertRule(
                "HBM too hot",
                "memory_temperature_c",
                above=95.0,
                for_s=30.0,
                every_s=600.0,
                devices=("gpu*", "nvidia:GPU-2aea*"),
                severity=Severity.CRITICAL,
                actions=(AlertAction.TOAST, AlertAction.BELL, AlertAction.LOG, AlertAction.WEBHOOK),
            ),
            AlertRule("slow", state=HealthState.THROTTLED),
            AlertRule("little memory bandwidth", "memory_bandwidth_utilization", below=0.1, actions=()),
        ),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HOT + "abov = 3\n", "f:5: unknown key alerts.rules.abov; there are: name, metric, above"),
        (HOT + "below = 3\n", "f:5: alerts.rules.below and above exclude each other: make two rules"),
        (HOT + 'state = "lost"\n', "f:5: alerts.rules.state and metric exclude each other: make two rules"),
        (HOT + "for_s = -1\n", "f:5: alerts.rules.for_s must be between 0 and 604800, not -1"),
        (HOT + "every_s = nan\n", "f:5: alerts.rules.every_s must be a finite number"),
        (HOT + "every_s = true\n", "f:5: alerts.rules.every_s must be a number, not True"),
        (HOT + 'severity = "bad"\n', "f:5: alerts.rules.severity must be one of info, warning, critical, not 'bad'"),
        (
            HOT + 'actions = ["beep"]\n',
            "f:5: alerts.rules.actions must be one of toast, bell, log, webhook, not 'beep'",
        ),
        (HOT + 'actions = "log"\n', "f:5: alerts.rules.actions must be a list of strings"),
        (HOT + 'actions = ["webhook"]\n', "f:5: alerts.rules.actions has webhook, but alerts.webhook is not set"),
        (HOT + "devices = []\n", "f:5: alerts.rules.devices must be a list of device ids, keys or patterns"),
        (HOT + "devices = [1]\n", "f:5: alerts.rules.devices must be a string, not 1"),
        (HOT + "\n" + HOT, "f:7: alerts.rules.name 'hot' is the name of another rule already"),
        ('[[alerts.rules]]\nname = ""\n', "f:2: alerts.rules.name must be 1 to 80 characters in one line"),
        ('[[alerts.rules]]\nname = "a\\nb"\n', "f:2: alerts.rules.name must be 1 to 80 characters in one line"),
        ('\n[[alerts.rules]]\nstate = "lost"\n', "f:2: alerts.rules.name is missing: every rule has a name"),
        ('[[alerts.rules]]\nname = "a"\n', "f:1: alerts.rules.metric is missing: every rule has a metric or a state"),
        ('[[alerts.rules]]\nname = "a"\nabove = 3\n', "f:3: alerts.rules.above goes with a metric: name one"),
        (
            '[[alerts.rules]]\nname = "a"\nstate = "lost"\nbelow = 3\n',
            "f:4: alerts.rules.below goes with a metric: name one",
        ),
        (
            '[[alerts.rules]]\nname = "a"\nmetric = "power_w"\n',
            "f:1: alerts.rules.below or above must be given with a metric",
        ),
        (
            '[[alerts.rules]]\nname = "a"\nmetric = "temprature_c"\n',
            "f:3: alerts.rules.metric names no metric: 'temprature_c'; did you mean temperature_c",
        ),
        (
            '[[alerts.rules]]\nname = "a"\nmetric = "Q"\n',
            "f:3: alerts.rules.metric names no metric: 'Q'; there are: ut",
        ),
        (
            '[[alerts.rules]]\nname = "a"\nmetric = "utilization"\nabove = 95\n',
            "f:4: alerts.rules.above must be between 0 and 1, as utilization is, not 95",
        ),
        (
            '[[alerts.rules]]\nname = "a"\nstate = "ok"\n',
            "f:3: alerts.rules.state must be one of warm, throttled, stale, lost, not 'ok'",
        ),
        ('[alerts]\nrules = "none"\n', "f:2: alerts.rules must be tables, each begun with"),
        ('alerts.rules = [{name = "a", state = "bad"}]\n', "f:1: alerts.rules.state must be one of"),
        ("[alerts]\nwebhok = 1\n", "f:2: unknown key alerts.webhok; there are: webhook, rules"),
        ("[alerts]\nwebhook = 1\n", "f:2: alerts.webhook must be a string, not 1"),
        (
            '[alerts]\nwebhook = "http://example.com/s3cret"\n',
            "f:2: alerts.webhook must be https://HOST/… (or http:// on localhost): http to example.com would send",
        ),
    ],
)
def test_mistakes_name_file_line_and_key(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_config(text, "f")
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://example.com/hook", True),
        ("https://user:secret@[2001:db8::1]:8443/hook?x=1", True),
        ("http://127.0.0.1:8080/", True),
        ("http://127.8.9.1", True),
        ("http://[::1]:9/x", True),
        ("http://localhost:9/x", True),
        ("http://hooks.localhost/x", True),
        ("http://192.168.1.4/secret", False),
        ("http://127.0.0.1.example.com/secret", False),
        ("http://localhost.example.com/secret", False),
        ("http://0.0.0.0/secret", False),
        ("ftp://localhost/secret", False),
        ("file:///etc/secret", False),
        ("https:///secret", False),
        ("https://host:99999/secret", False),
        ("https://host:0/secret", False),
        ("https://[::1/secret", False),
        ("https://ho st/secret", False),
        ("https://host/secret\r\nX: y", False),
        ("https://bücher.example/secret", False),
        ("secret", False),
        ("", False),
    ],
)
def test_only_an_encrypted_or_local_webhook_is_taken(url: str, good: bool) -> None:
    problem = webhook_problem(url)
    assert (problem == "") is good
    assert "secret" not in problem


def test_the_url_may_stand_in_the_environment() -> None:
    environ = {"HWDASH_ALERTS__WEBHOOK": "http://localhost:1/x"}
    config = parse_config(HOT + 'actions = ["webhook"]\n', "f", environ)
    assert override_from_environment(config, environ).alerts.webhook == "http://localhost:1/x"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("WEBHOOK", "http://example.com", "environment variable HWDASH_ALERTS__WEBHOOK: alerts.webhook must be"),
        ("WEBHOOK", "", "environment variable HWDASH_ALERTS__WEBHOOK: alerts.webhook must be"),
        ("RULES", "[]", "environment variable HWDASH_ALERTS__RULES: rules can only be given in a file"),
    ],
)
def test_mistakes_in_the_environment_name_the_variable(name: str, value: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        override_from_environment(Config(), {f"HWDASH_ALERTS__{name}": value})


KEYS = st.sampled_from(
    ["name", "metric", "above", "below", "state", "for_s", "every_s", "devices", "severity", "actions"]
)
VALUES = st.one_of(
    st.sampled_from(['"power_w"', '"throttled"', '"a"', '["*"]', '["log"]', "[[1]]", "1979-05-27", "{a = 1}"]),
    st.integers().map(str),
    st.floats().map(repr),
    st.text(string.ascii_letters + " é🔥", max_size=90).map(lambda text: f'"{text}"'),
)


@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=10), max_size=3))
def test_any_rules_are_taken_or_refused_in_one_line(tables: list[dict[str, str]]) -> None:
    text = "".join(
        "[[alerts.rules]]\n" + "".join(f"{key} = {value}\n" for key, value in table.items()) for table in tables
    )
    try:
        config = parse_config(text, "f")
    except UsageError as error:
        assert error.message.startswith("f:")
        assert "\n" not in error.message
    else:
        assert len(config.alerts.rules) == len(tables)
