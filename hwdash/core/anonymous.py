"""A snapshot without what tells whose machine it was, for recordings that are shared. Pure, but for one random key."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from dataclasses import replace

from hwdash.core.device import Device
from hwdash.core.event import Event
from hwdash.core.snapshot import DeviceStatus, LastRequest, Snapshot

_HASH_BYTES = 6
_SHORTEST_NAME = 4  # a shorter serial number would be found within other words
_NOBODY = frozenset({"root"})  # is on every machine, and stands in advice
_PCI_WORDS = "its PCI address"
_UUID = re.compile(r"\b(?:[A-Z]+-)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)
_PCI_TEXT = r"\b[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?\b"
_PCI = re.compile(_PCI_TEXT)
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\",;]+", re.IGNORECASE)
_HOME = re.compile(r"/(?:home|Users)/([^\s/:;,'\"()\[\]]+)|(?<![\w~/])~([\w.-]+)")
_PATH = re.compile(rf"(?<![\w/.])~?/(?:{_PCI_TEXT}|[^\s:;,'\"()\[\]])+")


class Anonymiser:
    """Takes out what names a machine or a person, the same way in every snapshot of one recording.

    Keys (serial numbers, UUIDs, PCI addresses) become hashes. Their key is made at random and kept nowhere: a device
    can be followed through one recording and not into another one, and no hash can be found out by trying all
    addresses. PCI addresses, programs, users and the address of a server go; of a path in a text, or of a model that
    is a directory, its last part stays. What the driver says in words is kept, with all that replaced in it.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._names: dict[str, str] = {}
        self._users: set[str] = set()
        self._user = re.compile(r"(?!)")

    def snapshot(self, snapshot: Snapshot) -> Snapshot:
        """*snapshot* without names. Events and ranking are left out."""
        for status in snapshot.devices:
            self._learn(status.device)
            for process in status.processes if isinstance(status.processes, tuple) else ():
                self._learn_user(process.user)
        return replace(
            snapshot,
            devices=tuple(self._status(status) for status in snapshot.devices),
            sources=tuple(replace(source, problem=self._words(source.problem)) for source in snapshot.sources),
            ranking=None,
            events=(),
        )

    def event(self, event: Event) -> Event:
        """*event* without names."""
        return replace(
            event,
            key=self._hashed(event.key),
            device=self._hashed(event.device) if ":" in event.device else event.device,
            words=self._words(event.words),
            reasons=_each(self._words, event.reasons),
            rule=None if event.rule is None else self._words(event.rule),
        )

    def _learn(self, device: Device) -> None:
        if device.key not in self._names:
            self._names[device.key] = hashed = self._hashed(device.key)
            serial = device.key.partition(":")[2]
            for name in (serial, device.visible_as or ""):
                if len(name) >= _SHORTEST_NAME:
                    self._names.setdefault(name, hashed.partition(":")[2])
        if device.pci:
            self._names[device.pci] = _PCI_WORDS

    def _learn_user(self, user: str | None) -> None:
        if user and user not in _NOBODY and user not in self._users:
            self._users.add(user)
            names = sorted(map(re.escape, self._users), key=len, reverse=True)
            self._user = re.compile(rf"(?<![\w-])(?:{'|'.join(names)})(?![\w-])")

    def _status(self, status: DeviceStatus) -> DeviceStatus:
        device = status.device
        health = status.health
        return replace(
            status,
            device=replace(
                device,
                key=self._hashed(device.key),
                parent=None if device.parent is None else self._hashed(device.parent),
                pci=None,
                visible_as=None,
                runtime=None,
            ),
            throttle=tuple(
                item if item.detail is None else replace(item, detail=self._words(item.detail))
                for item in status.throttle
            ),
            health=replace(health, reasons=_each(self._words, health.reasons)),
            faults=tuple(replace(fault, words=self._words(fault.words)) for fault in status.faults),
            processes=None,
            last_request=None if status.last_request is None else self._request(status.last_request),
        )

    def _words(self, words: str) -> str:
        words = _ADDRESS.sub("an address", words)
        words = _HOME.sub(self._home, words)
        words = _PATH.sub(_last_part, words)
        for name in sorted(self._names, key=len, reverse=True):
            if name in words:
                words = words.replace(name, self._names[name])
        words = _UUID.sub(lambda found: self._hashed(found[0]).partition(":")[2], words)
        words = _PCI.sub(_PCI_WORDS, words)
        return self._user.sub("a user", words)

    def _home(self, found: re.Match[str]) -> str:
        self._learn_user(found[1] or found[2])
        return "~"

    def _request(self, last: LastRequest) -> LastRequest:
        """A model of the store has its name, or one of the Hub, ``org/name``; anything else is a place on a disk."""
        if last.model[:1] in ("/", "~", ".") or last.model.count("/") > 1:
            place = _HOME.sub(self._home, last.model).rstrip("/")
            model = self._words(place.rpartition("/")[2].lstrip("~.")) or "a model"
        else:
            model = self._user.sub("a user", last.model)
        return replace(last, model=model)

    def _hashed(self, key: str) -> str:
        """``nvidia:GPU-2aea…`` as ``nvidia:9c1f03aa51de``."""
        vendor, colon, _ = key.partition(":")
        digest = hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=_HASH_BYTES, key=self._secret)
        return f"{vendor if colon else 'device'}:{digest.hexdigest()}"


def _each(change: Callable[[str], str], texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(change(text) for text in texts)


def _last_part(found: re.Match[str]) -> str:
    """``~/.config/hwdash/chips/a.toml`` as ``a.toml``."""
    path = found[0].rstrip("/")
    return path.rpartition("/")[2] or path
