"""Addresses of servers that settings and chip profiles give: which ones can be asked at all."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

LONGEST = 2000
_BASE = "must be the base URL of a server, http(s)://HOST[:PORT][/PATH]"
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.ASCII)
_NUMBER = re.compile(r"(.*\.)?[0-9]+\.?", re.ASCII)
"""A host that ends in a number is an address of IPv4 or nothing (URL standard, "ends in a number checker")."""
_LONGEST_NAME = 253


class BadUrl(ValueError):
    """The text is no address that can be asked. Says why in words that follow its form, none of them from the text itself."""


def parse_url(url: str) -> SplitResult:
    """The parts of *url*, an ``http`` or ``https`` URL whose host can be asked for. Raises `BadUrl`."""
    if not url.isascii() or any(letter <= " " or letter == "\x7f" for letter in url):
        raise BadUrl("without blanks and with ASCII characters only")
    if len(url) > LONGEST:
        raise BadUrl(f"of at most {LONGEST} characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadUrl("its host or port is not understood") from None
    if parts.scheme not in ("http", "https") or not host:
        raise BadUrl("with a host")
    if port == 0:
        raise BadUrl("with a port from 1 to 65535")
    if not _is_host(host, parts.netloc.rpartition("@")[2].lower()):
        raise BadUrl("its host is neither a name nor an address")
    return parts


def base_url_problem(url: str) -> str:
    """What is wrong with *url* as the base of a server's API, in words that follow its name; empty when nothing is."""
    try:
        parts = parse_url(url)
    except BadUrl as error:
        return f"{_BASE}; {error}"
    if "@" in parts.netloc:
        return f"{_BASE}, with no password and no user"
    return f"{_BASE}, with no query and no fragment" if parts.query or parts.fragment else ""


def _is_host(host: str, place: str) -> bool:
    """Whether *host*, in lower case, is one; *place* is it as it was written, with its port."""
    if place.startswith("["):
        # What follows an address in brackets is its port: urlsplit lets anything pass there.
        return place.removeprefix(f"[{host}]")[:1] in ("", ":") and "%" not in host and _is_address(host, 6)
    if _NUMBER.fullmatch(host):
        return _is_address(host, 4)
    if not _NAME.fullmatch(host) or len(host) > _LONGEST_NAME:
        return False
    try:
        host.encode("idna").decode("idna")
    except UnicodeError:
        return False
    return True


def _is_address(host: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(host).version == version
    except ValueError:
        return False
