"""Alert rules from the tables of a configuration file."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import SplitResult

from hwdash.core.alert import AlertRule
from hwdash.core.errors import UsageError
from hwdash.core.event import AlertAction, Severity
from hwdash.core.health import HealthState
from hwdash.core.metric import METRICS, Unit, metric_hint
from hwdash.core.text import sanitise_line
from hwdash.core.tomlline import KeyPath
from hwdash.core.url import BadUrl, parse_url

E = TypeVar("E", bound=StrEnum)

LONGEST_S = 7 * 86_400.0
"""The most that ``for_s`` and ``every_s`` may be."""
MAX_RULES = 200
MAX_NAME = 80
_MAX_PATTERNS = 100
_MAX_PATTERN = 512
_BAD_STATES = tuple(state for state in HealthState if state is not HealthState.OK)


class _Mistake(ValueError):
    """What is wrong with a value: words that follow its name."""


def read_rules(tables: object, where: Callable[[KeyPath], str]) -> tuple[AlertRule, ...]:
    """The rules of ``[[alerts.rules]]``; *where* names the place of a path in the file.

    Raises `UsageError` for the first mistake, with its place and key.
    """
    top: KeyPath = ("alerts", "rules")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{where(top)}: alerts.rules must be tables, each begun with [[alerts.rules]]", param="rules")
    if len(tables) > MAX_RULES:
        raise UsageError(f"{where(top)}: alerts.rules: there are {len(tables)}, at most {MAX_RULES}", param="rules")
    rules: list[AlertRule] = []
    for number, table in enumerate(tables):
        rule = _read_rule(table, (*top, number), where)
        if any(rule.name == other.name for other in rules):
            raise _error(where, (*top, number, "name"), f"{rule.name!r} is the name of another rule already")
        rules.append(rule)
    return tuple(rules)


def check_webhooks(rules: Iterable[AlertRule], where: Callable[[KeyPath], str]) -> None:
    """Raise `UsageError` for a rule with the action ``webhook``: there is no URL to send it to."""
    for number, rule in enumerate(rules):
        if AlertAction.WEBHOOK in rule.actions:
            raise _error(where, ("alerts", "rules", number, "actions"), "has webhook, but alerts.webhook is not set")


def webhook_problem(url: str) -> str:
    """Why alerts cannot be sent to *url*, without a word of it that could be secret; empty when they can.

    A name in an ``http`` URL must be ``localhost`` here; what it resolves to is checked again when it is used.
    """
    form = "must be https://HOST/… (or http:// on localhost)"
    try:
        parts = parse_url(url)
    except BadUrl as error:
        return f"{form}; {error}"
    if parts.scheme == "http" and not _is_local(parts):
        return (
            f"{form}: http to {sanitise_line(parts.hostname or '', 80)} would send alerts unencrypted over the network"
        )
    return ""


def _is_local(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _read_rule(table: Mapping[str, Any], place: KeyPath, where: Callable[[KeyPath], str]) -> AlertRule:
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _READERS:
            choices = ", ".join(_READERS)
            raise UsageError(
                f"{where((*place, key))}: unknown key alerts.rules.{sanitise_line(key, 60)}; there are: {choices}",
                param=key,
            )
        try:
            values[key] = _READERS[key](value)
        except _Mistake as mistake:
            raise _error(where, (*place, key), str(mistake)) from None
    if "name" not in values:
        raise _error(where, (*place, "name"), "is missing: every rule has a name")
    rule = AlertRule(**values)
    _check_condition(rule, place, where)
    return rule


def _check_condition(rule: AlertRule, place: KeyPath, where: Callable[[KeyPath], str]) -> None:
    """A rule has either a state, or a metric with one bound that it can reach."""
    bounds = [key for key in ("above", "below") if getattr(rule, key) is not None]
    if rule.metric is None:
        if bounds:
            raise _error(where, (*place, bounds[0]), "goes with a metric: name one")
        if rule.state is None:
            raise _error(where, (*place, "metric"), "is missing: every rule has a metric or a state")
        return
    if rule.state is not None:
        raise _error(where, (*place, "state"), "and metric exclude each other: make two rules")
    if len(bounds) != 1:
        problem = "and above exclude each other: make two rules" if bounds else "or above must be given with a metric"
        raise _error(where, (*place, "below"), problem)
    bound = getattr(rule, bounds[0])
    if METRICS[rule.metric].unit is Unit.RATIO and not 0.0 <= bound <= 1.0:
        raise _error(where, (*place, bounds[0]), f"must be between 0 and 1, as {rule.metric} is, not {bound:g}")


def _error(where: Callable[[KeyPath], str], path: KeyPath, words: str) -> UsageError:
    key = str(path[-1])
    return UsageError(f"{where(path)}: alerts.rules.{key} {words}", param=key)


def _name(value: object) -> str:
    name = _string(value)
    if not name or len(name) > MAX_NAME or sanitise_line(name) != name:
        raise _Mistake(f"must be 1 to {MAX_NAME} characters in one line")
    return name


def _metric(value: object) -> str:
    name = _string(value)
    if name in METRICS:
        return name
    raise _Mistake(f"names no metric: {sanitise_line(name, 60)!r}; {metric_hint(name)}")


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Mistake(f"must be a number, not {sanitise_line(repr(value), 60)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _Mistake("must be a finite number")
    return number


def _seconds(value: object) -> float:
    seconds = _number(value)
    if not 0.0 <= seconds <= LONGEST_S:
        raise _Mistake(f"must be between 0 and {LONGEST_S:.0f}, not {seconds:g}")
    return seconds


def _one_of(kind: Iterable[E], value: object) -> E:
    members = {member.value: member for member in kind}
    if not isinstance(value, str) or value not in members:
        raise _Mistake(f"must be one of {', '.join(members)}, not {sanitise_line(repr(value), 60)}")
    return members[value]


def _actions(value: object) -> tuple[AlertAction, ...]:
    return tuple(dict.fromkeys(_one_of(AlertAction, item) for item in _list(value)))


def _patterns(value: object) -> tuple[str, ...]:
    patterns = tuple(_string(item) for item in _list(value))
    if not patterns or len(patterns) > _MAX_PATTERNS or not all(0 < len(item) <= _MAX_PATTERN for item in patterns):
        raise _Mistake('must be a list of device ids, keys or patterns of them, such as ["gpu*"]')
    return patterns


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise _Mistake("must be a list of strings")
    return value


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise _Mistake(f"must be a string, not {sanitise_line(repr(value), 60)}")
    return value


_READERS: Mapping[str, Callable[[object], object]] = MappingProxyType(
    {
        "name": _name,
        "metric": _metric,
        "above": _number,
        "below": _number,
        "state": lambda value: _one_of(_BAD_STATES, value),
        "for_s": _seconds,
        "every_s": _seconds,
        "devices": _patterns,
        "severity": lambda value: _one_of(Severity, value),
        "actions": _actions,
    }
)
