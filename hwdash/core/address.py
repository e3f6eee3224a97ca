"""Addresses to listen at, as settings and flags give them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hwdash.core.errors import UsageError
from hwdash.core.text import sanitise_line

_ADDRESS = re.compile(
    r"(?:\[(?P<v6>[0-9a-fA-F:.]+(?:%\w+)?)\]|(?P<name>[A-Za-z0-9_.-]+)):(?P<port>[0-9]{1,5})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Address:
    """A host (name, IPv4 or IPv6) and a port; port 0 is any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, name: str = "listen") -> Address:
    """``HOST:PORT`` as an address. Raises `UsageError`, which names *name*."""
    if problem := address_problem(text):
        raise UsageError(f"{name} {problem}", param="listen")
    host, _, port = text.rpartition(":")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def address_problem(text: str) -> str:
    """What keeps *text* from being an address to listen at, in words that follow its name; empty when nothing does."""
    match = _ADDRESS.fullmatch(text)
    if match is not None and int(match["port"]) <= 65_535:
        return ""
    shown = sanitise_line(repr(text), 80)
    return f"is no address, {shown}: write HOST:PORT, such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080"
