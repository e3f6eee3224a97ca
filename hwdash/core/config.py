"""The configuration: what can be set, its defaults, and how text becomes it. Reading the file is the caller's work.

Precedence, highest first: command-line flag, environment (``HWDASH_<SECTION>__<KEY>``), file, default.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_origin, get_type_hints

from hwdash.core.address import address_problem
from hwdash.core.alert import AlertConfig
from hwdash.core.errors import UsageError
from hwdash.core.rule import check_webhooks, read_rules, webhook_problem
from hwdash.core.server import ServerConfig, read_servers
from hwdash.core.tomlline import KeyPath, key_lines, line_of

DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_THEME = "hwdash"


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    """How devices are watched. ``interval_s`` 0.1 to 60; ``deadline_s`` is how long one read may take."""

    interval_s: float = 1.0
    deadline_s: float = 2.0


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How prompts are answered.

    ``model`` is used where a prompt names none. ``prewarm`` loads models before they are asked for, each as
    ``MODEL`` or ``MODEL@DEVICE``. ``keep_alive_s`` is how long an idle worker stays loaded (0: until the daemon
    ends). ``max_queue`` bounds the requests that wait for one device, ``max_concurrent`` those that its workers run at once;
    ``load_timeout_s`` bounds a cold start; a worker that says nothing for ``hang_s`` while it should compute is ended.
    ``compile`` has better kernels compiled in the background where the device captures its steps. ``quantize`` lets a CPU
    hold weights in 8 bits where that is faster; answers are other ones then, of about the same quality. ``spare`` keeps
    a worker that has imported its libraries waiting for the next model, in a daemon that no command owns. ``servers`` are
    external servers that answer for a device.
    """

    model: str = DEFAULT_MODEL
    prewarm: tuple[str, ...] = ()
    keep_alive_s: float = 900.0
    max_queue: int = 32
    max_concurrent: int = 8
    load_timeout_s: float = 600.0
    hang_s: float = 60.0
    compile: bool = False
    quantize: bool = False
    spare: bool = True
    servers: tuple[ServerConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class ProbesConfig:
    """How loaded models are probed: every ``interval_s`` (0: never), ``max_tokens`` tokens each, only while the device is idle."""

    interval_s: float = 60.0
    max_tokens: int = 16


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """Where the daemon listens besides its socket.

    ``listen`` is ``HOST:PORT``; None: nowhere. ``insecure`` lets it listen without any token there is. ``certificate``
    and ``key`` are PEM files; both or neither.
    """

    listen: str | None = None
    insecure: bool = False
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """What is kept. Samples older than ``retention_days`` go; above ``max_size_mb`` the oldest samples go first."""

    retention_days: float = 7.0
    max_size_mb: int = 2048


@dataclass(frozen=True, slots=True)
class DashboardConfig:
    """How the dashboard looks. ``ascii`` draws with ASCII only."""

    theme: str = DEFAULT_THEME
    ascii: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration."""

    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    probes: ProbesConfig = field(default_factory=ProbesConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    dashboard: DashboardConfig = field(default_factory=DashboardConfig)
    alerts: AlertConfig = field(default_factory=AlertConfig)


_TABLES: Mapping[tuple[str, str], Callable[[object, Callable[[KeyPath], str]], object]] = types.MappingProxyType(
    {("alerts", "rules"): read_rules, ("engine", "servers"): read_servers}
)
_WEBHOOK_VARIABLE = "HWDASH_ALERTS__WEBHOOK"
_NO_ENVIRONMENT: Mapping[str, str] = types.MappingProxyType({})
_BOUNDS: Mapping[tuple[str, str], tuple[float, float]] = types.MappingProxyType(
    {
        ("monitor", "interval_s"): (0.1, 60.0),
        ("monitor", "deadline_s"): (0.05, 60.0),
        ("engine", "keep_alive_s"): (0.0, 1e9),
        ("engine", "max_queue"): (1, 100_000),
        ("engine", "max_concurrent"): (1, 1024),
        ("engine", "load_timeout_s"): (1.0, 86_400.0),
        ("engine", "hang_s"): (1.0, 86_400.0),
        ("probes", "interval_s"): (0.0, 86_400.0),
        ("probes", "max_tokens"): (1, 1024),
        ("store", "retention_days"): (0.01, 3650.0),
        ("store", "max_size_mb"): (16, 1_000_000),
    }
)
"""Smallest and largest value of each bounded number."""


def check_interval(seconds: float) -> float:
    """*seconds* when it may be a poll interval. Raises `UsageError` that names the bounds."""
    low, high = _BOUNDS["monitor", "interval_s"]
    if not low <= seconds <= high:
        raise UsageError(
            f"the interval must be between {low:g} and {high:g} seconds, not {seconds:g}", param="interval"
        )
    return seconds


def parse_config(text: str, origin: str, environ: Mapping[str, str] = _NO_ENVIRONMENT) -> Config:
    """The configuration of a TOML *text*; *origin* names the file in messages.

    *environ* is what will be laid over it: a URL for alerts may stand there. Raises `UsageError` with file, line and
    key for broken TOML, an unknown key, a wrong type or a value out of range.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{origin}: {error}") from None

    lines = key_lines(text)

    def where(path: KeyPath) -> str:
        return f"{origin}:{line_of(lines, path)}"

    config = _merge(Config(), data, where)
    if config.alerts.webhook is None and _WEBHOOK_VARIABLE not in environ:
        check_webhooks(config.alerts.rules, where)
    return config


def override_from_environment(config: Config, environ: Mapping[str, str]) -> Config:
    """*config* with every ``HWDASH_<SECTION>__<KEY>`` of *environ* laid over it.

    Raises `UsageError` that names the variable for an unknown section or key and for a bad value.
    """
    data: dict[str, dict[str, Any]] = {}
    names: dict[KeyPath, str] = {}
    for name, value in environ.items():
        if (match := re.fullmatch(r"HWDASH_([A-Z]+)__([A-Z0-9_]+)", name)) is None:
            continue
        section, key = match[1].lower(), match[2].lower()
        if (section, key) in (("alerts", "rules"), ("engine", "servers")):
            raise UsageError(f"environment variable {name}: {key} can only be given in a file", param=key)
        data.setdefault(section, {})[key] = _from_text(section, key, value)
        names[section, key] = name
        names.setdefault((section,), name)
    return _merge(config, data, lambda path: f"environment variable {names[path]}")


def _merge(config: Config, data: Mapping[str, Any], where: Callable[[KeyPath], str]) -> Config:
    for section, values in data.items():
        current = getattr(config, section, None)
        if current is None:
            raise UsageError(f"{where((section,))}: unknown section [{section}]; {_choices(config)}", param=section)
        if not isinstance(values, dict):
            raise UsageError(f"{where((section,))}: {section} must be a section, [{section}]", param=section)
        hints = get_type_hints(type(current))
        changes = {}
        for key, value in values.items():
            if (read := _TABLES.get((section, key))) is not None:
                changes[key] = read(value, where)
                continue
            if key not in hints:
                raise UsageError(
                    f"{where((section, key))}: unknown key {section}.{key}; {_choices(current)}", param=key
                )
            problem, changes[key] = _checked(section, key, value, hints[key])
            if problem:
                raise UsageError(f"{where((section, key))}: {section}.{key} {problem}", param=key)
        config = dataclasses.replace(config, **{section: dataclasses.replace(current, **changes)})
    return config


def _choices(holder: Any) -> str:
    return "there are: " + ", ".join(item.name for item in dataclasses.fields(holder))


def _checked(section: str, key: str, value: Any, hint: Any) -> tuple[str, Any]:
    """A problem in words (or an empty string), and the value in the field's type."""
    if get_origin(hint) is tuple:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return "", tuple(value)
        return "must be a list of strings", None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    hint = str if hint == str | None else hint
    if type(value) is not hint:
        return f"must be {_TYPE_NAMES[hint]}, not {value!r}", None
    if (section, key) == ("alerts", "webhook"):
        return webhook_problem(value), value
    if (section, key) == ("http", "listen"):
        return address_problem(value), value
    low, high = _BOUNDS.get((section, key), (float("-inf"), float("inf")))
    if isinstance(value, int | float) and not low <= value <= high:
        return f"must be between {low:g} and {high:g}, not {value!r}", None
    return "", value


_TYPE_NAMES = {float: "a number", int: "a whole number", bool: "true or false", str: "a string"}


def _from_text(section: str, key: str, text: str) -> Any:
    """The text of an environment variable in the type of its field; text that does not fit is returned as it is."""
    holder = getattr(Config(), section, None)
    hint = get_type_hints(type(holder)).get(key) if holder is not None else None
    if get_origin(hint) is tuple:
        return [item.strip() for item in text.split(",") if item.strip()]
    if hint is bool:
        return {"1": True, "true": True, "0": False, "false": False}.get(text.lower(), text)
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            return text
    return text
