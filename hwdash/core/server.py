"""External servers with OpenAI's API that answer prompts for a device."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hwdash.core.device import Device
from hwdash.core.errors import ServerDown, UsageError
from hwdash.core.text import sanitise_line
from hwdash.core.tomlline import KeyPath
from hwdash.core.url import base_url_problem

MAX_SERVERS = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)
_TOP: KeyPath = ("engine", "servers")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One server, called *name*. ``url`` is the base of its API (``http://127.0.0.1:8080/v1``).

    ``device`` is the id or key of the device that it computes on; None: the server is shown as a device of its own.
    ``model`` is the name under which hwdash offers the server's only model; None: models go by the server's names.
    ``token_variable`` names the environment variable with its bearer token. ``slots`` is how many requests it answers
    at once.
    """

    name: str
    url: str = field(repr=False)
    device: str | None = None
    model: str | None = None
    token_variable: str | None = None
    slots: int = 4


def server_url_problem(url: str) -> str:
    """What is wrong with *url* as the base of a server's API, in words that follow its name; empty when nothing is."""
    problem = base_url_problem(url)
    return f"{problem}: give a token by token_variable" if "no password" in problem else problem


def server_label(server: ServerConfig) -> str:
    """What messages call *server*: its name, where it has one, and where it is."""
    return f"{server.name} at {server.url}" if server.name else server.url


def server_key(server: ServerConfig) -> str:
    """The key of the device that *server* itself is."""
    return f"server:{server.name}"


def server_token(server: ServerConfig, environ: Mapping[str, str]) -> str:
    """The bearer token of *server* from *environ*; empty where it has none.

    Raises `ServerDown` for one that no header can carry; no message ever shows it.
    """
    token = "" if server.token_variable is None else environ.get(server.token_variable, "").strip()
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise ServerDown(
            f"{server_label(server)}: the token in {server.token_variable} must be ASCII without blanks; correct it"
        )
    return token


def status_problem(status: int) -> str:
    """What keeps a server from answering that answers its list of models with this HTTP *status*; empty: nothing.

    Many a server has no such list (404, 500) and answers prompts all the same.
    """
    if 300 <= status < 400:
        return f"answers with a redirect ({status}), which is not followed: give the url that it leads to"
    if status in (502, 503, 504):
        return f"answers {status}: it is not ready"
    return ""


def unbound_servers(servers: Iterable[ServerConfig], devices: Iterable[Device]) -> Iterator[str]:
    """A sentence for each of *servers* whose ``device`` is none of *devices*: no prompt ever reaches it."""
    known = {name for device in devices for name in (device.id, device.key)}
    for server in servers:
        if server.device is not None and server.device not in known:
            yield (
                f"{server_label(server)} answers for no device: there is no {server.device}; correct device in "
                "[[engine.servers]], or leave it out to have the server as a device of its own"
            )


def read_servers(tables: object, where: Callable[[KeyPath], str]) -> tuple[ServerConfig, ...]:
    """The servers of ``[[engine.servers]]``; *where* names the place of a path in the file.

    Raises `UsageError` for the first mistake, with its place and key.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(
            f"{where(_TOP)}: engine.servers must be tables, each begun with [[engine.servers]]", param="servers"
        )
    if len(tables) > MAX_SERVERS:
        raise UsageError(
            f"{where(_TOP)}: engine.servers: there are {len(tables)}, at most {MAX_SERVERS}", param="servers"
        )
    servers: list[ServerConfig] = []
    for number, table in enumerate(tables):
        server = _read_server(table, (*_TOP, number), where)
        if any(server.name == other.name for other in servers):
            raise _error(where, (*_TOP, number, "name"), f"{server.name!r} is the name of another server already")
        servers.append(server)
    return tuple(servers)


def _read_server(table: Mapping[str, Any], place: KeyPath, where: Callable[[KeyPath], str]) -> ServerConfig:
    for key, value in table.items():
        if key not in _CHECKS:
            raise UsageError(
                f"{where((*place, key))}: unknown key engine.servers.{sanitise_line(key, 60)}; "
                f"there are: {', '.join(_CHECKS)}",
                param=key,
            )
        if problem := _CHECKS[key](value):
            raise _error(where, (*place, key), problem)
    for key in ("name", "url"):
        if key not in table:
            raise _error(where, (*place, key), "is missing: every server has a name and a url")
    return ServerConfig(**{**table, "url": table["url"].rstrip("/")})


def _error(where: Callable[[KeyPath], str], path: KeyPath, words: str) -> UsageError:
    key = str(path[-1])
    return UsageError(f"{where(path)}: engine.servers.{key} {words}", param=key)


def _text_problem(value: object, pattern: re.Pattern[str] | None, form: str) -> str:
    if not isinstance(value, str):
        return f"must be a string, not {sanitise_line(repr(value), 60)}"
    right = (
        pattern.fullmatch(value)
        if pattern is not None
        else 0 < len(value) <= 512 and sanitise_line(value, 512) == value
    )
    return "" if right else form


def _slots_problem(value: object) -> str:
    right = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1024
    return "" if right else f"must be a whole number from 1 to 1024, not {sanitise_line(repr(value), 60)}"


_CHECKS: Mapping[str, Callable[[object], str]] = {
    "name": lambda value: _text_problem(
        value, _NAME, "must be 1 to 40 letters, digits, dots, dashes or underscores, the first a letter or digit"
    ),
    "url": lambda value: server_url_problem(value) if isinstance(value, str) else _text_problem(value, None, ""),
    "device": lambda value: _text_problem(value, None, "must be the id or key of a device"),
    "model": lambda value: _text_problem(value, None, "must be a name in one line"),
    "token_variable": lambda value: _text_problem(value, _VARIABLE, "must be the name of an environment variable"),
    "slots": _slots_problem,
}
