"""The daemon's TCP address: what it may be, who may use it, and the sockets that are opened there."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hwdash.core.address import Address, parse_address
from hwdash.core.config import HttpConfig
from hwdash.core.errors import DaemonUnreachable, UsageError
from hwdash.daemon.certificate import key_warning, server_tls
from hwdash.daemon.token import TokenFile, TokenFileError

_BACKLOG = 128
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 60_000))
"""A peer that vanished without a word is noticed within a minute (tcp(7): seconds, seconds, probes, milliseconds)."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where the daemon listens over TCP. ``tokens`` is None when requests need none; ``warning`` says what is risky."""

    address: Address
    sockets: tuple[socket.socket, ...]
    tls: ssl.SSLContext | None
    tokens: TokenFile | None
    warning: str

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"{'http' if self.tls is None else 'https'}://{self.address}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A door that may be opened: everything about it has been checked but whether its place is free.

    ``warning`` says what is risky about its files.
    """

    address: Address
    tls: ssl.SSLContext | None
    tokens: TokenFile | None
    warning: str = ""


def plan(http: HttpConfig, tokens: Path) -> Plan | None:
    """What *http* asks for, or None where it asks for no TCP.

    Raises `UsageError` for an address, certificate or key that cannot be, and where no token in the file *tokens* would let
    anybody in and ``insecure`` is not set; `DaemonUnreachable` when that file cannot be trusted.
    """
    if http.listen is None:
        return None
    address = parse_address(http.listen)
    tls = server_tls(http.certificate, http.key)
    risky = key_warning(http.key) if http.key is not None else ""
    if http.insecure:
        return Plan(address, tls, None, risky)
    file = TokenFile(tokens)
    try:
        known = file.read()
    except TokenFileError as error:
        raise DaemonUnreachable(error.message) from None
    if not known:
        raise UsageError(
            f"there is no token, so nobody could use {address}: make one with `hwdash token create`, "
            "or add --insecure to let everybody in who reaches that address",
            param="listen",
        )
    return Plan(address, tls, file, risky)


@contextlib.contextmanager
def opened(wanted: Plan | None) -> Iterator[Door | None]:
    """The door of *wanted*, closed at the end. Raises `DaemonUnreachable` when the address cannot be used."""
    if wanted is None:
        yield None
        return
    with contextlib.ExitStack() as stack:
        listeners: list[socket.socket] = []
        port = wanted.address.port
        for family, place in _resolved(wanted.address):
            try:
                listener = stack.enter_context(_bind(family, place, port))
            except OSError as error:
                # localhost has an IPv6 address also where the kernel has no IPv6.
                if listeners and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue
                raise _cannot(wanted.address, error) from None
            listeners.append(listener)
            port = listener.getsockname()[1]
        address = Address(wanted.address.host, port)
        warning = "; ".join(filter(None, (_warning(address, listeners, wanted), wanted.warning)))
        yield Door(address, tuple(listeners), wanted.tls, wanted.tokens, warning)


def _resolved(address: Address) -> list[tuple[socket.AddressFamily, tuple[object, ...]]]:
    """The families and socket addresses of a host, IPv4 first, each once."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        words = error.strerror if isinstance(error, OSError) else "no such name"
        raise DaemonUnreachable(f"cannot listen at {address}: {words}; is the host right?") from None
    places = dict.fromkeys((family, place) for family, _, _, _, place in found)
    return sorted(places, key=lambda item: item[0] != socket.AF_INET)


def _bind(family: socket.AddressFamily, place: tuple[object, ...], port: int) -> socket.socket:
    # Accepted sockets inherit the protocol and the options; without the protocol asyncio leaves Nagle's delay on.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((place[0], port, *place[2:]))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _cannot(address: Address, error: OSError) -> DaemonUnreachable:
    advice = {
        errno.EADDRINUSE: "another program listens there; choose another port (0: any that is free)",
        errno.EACCES: "that port is not for this user; choose one above 1023",
        errno.EADDRNOTAVAIL: "this machine has no such address; 0.0.0.0 means all of its own",
    }.get(error.errno or 0, os.strerror(error.errno) if error.errno else str(error))
    return DaemonUnreachable(f"cannot listen at {address}: {advice}")


def _warning(address: Address, listeners: list[socket.socket], wanted: Plan) -> str:
    """What is risky about a door's place, in one sentence, or nothing."""
    local = all(ipaddress.ip_address(item.getsockname()[0].partition("%")[0]).is_loopback for item in listeners)
    if wanted.tokens is None:
        whom = "every user and program of this machine" if local else f"everybody who reaches {address}"
        return f"--insecure: {whom} can send prompts and watch without a token"
    if not local and wanted.tls is None:
        return f"tokens and prompts travel in clear text to {address}: set http.certificate and http.key for TLS"
    return ""
