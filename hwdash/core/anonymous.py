"""A snapshot without what tells whose machine it was, for recordings that are shared. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from hwdash.core.device import Device
from hwdash.core.event import Event
from hwdash.core.snapshot import DeviceStatus, LastRequest, Snapshot

_HASH_BYTES = 6


class Anonymiser:
    """Takes out what names a machine or a person, the same way in every snapshot.

    Keys (serial numbers, UUIDs) become hashes that are the same each time, so that a device can still be followed
    from one recording to the next; PCI addresses, programs and the address of a server go; a model that is a
    directory loses its path. What the driver says in words is kept, with keys and addresses replaced in it.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def snapshot(self, snapshot: Snapshot) -> Snapshot:
        """*snapshot* without names. Events and ranking are left out."""
        for status in snapshot.devices:
            self._learn(status.device)
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
            key=_hashed(event.key),
            words=self._words(event.words),
            reasons=_each(self._words, event.reasons),
        )

    def _learn(self, device: Device) -> None:
        if device.key in self._names:
            return
        self._names[device.key] = _hashed(device.key)
        serial = device.key.partition(":")[2]
        if len(serial) > 3:
            self._names[serial] = _hashed(device.key).partition(":")[2]
        if device.pci:
            self._names[device.pci] = "its PCI address"

    def _status(self, status: DeviceStatus) -> DeviceStatus:
        device = status.device
        health = status.health
        return replace(
            status,
            device=replace(
                device,
                key=_hashed(device.key),
                parent=None if device.parent is None else _hashed(device.parent),
                pci=None,
                visible_as=None,
                runtime=None,
            ),
            health=replace(health, reasons=_each(self._words, health.reasons)),
            faults=tuple(replace(fault, words=self._words(fault.words)) for fault in status.faults),
            processes=None,
            last_request=None if status.last_request is None else _without_path(status.last_request),
        )

    def _words(self, words: str) -> str:
        for name, substitute in self._names.items():
            if name in words:
                words = words.replace(name, substitute)
        return words


def _each(change: Callable[[str], str], texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(change(text) for text in texts)


def _hashed(key: str) -> str:
    """``nvidia:GPU-2aea…`` as ``nvidia:9c1f03aa51de``."""
    vendor, colon, _ = key.partition(":")
    digest = hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=_HASH_BYTES, key=b"hwdash recording")
    return f"{vendor if colon else 'device'}:{digest.hexdigest()}"


def _without_path(last: LastRequest) -> LastRequest:
    return replace(last, model=last.model.rstrip("/").rpartition("/")[2]) if last.model[:1] in ("/", "~", ".") else last
