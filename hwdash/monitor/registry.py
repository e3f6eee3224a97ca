"""Which devices there are, under which short ids, and which thread reads each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hwdash.core.device import Device, DeviceKind
from hwdash.core.errors import UnknownDevice
from hwdash.core.format import duration_text
from hwdash.core.snapshot import SourceStatus
from hwdash.core.trial import DtypeSpeed
from hwdash.monitor.complaint import Complaints
from hwdash.monitor.reader import Discovery, Reader
from hwdash.monitor.track import Line, Moment, Track
from hwdash.sources.source import Source

_KINDS = tuple(DeviceKind)


class Watch:
    """One source: the line on which it is discovered (and read, unless each device has its own), and its state."""

    def __init__(self, number: int, source: Source, reader: Reader) -> None:
        self.number = number
        self.source = source
        self.line = Line(source, reader)
        self.lines = [self.line]
        self.problem = ""
        self.rescan_at_s = float("-inf")
        self.discovering = False

    @property
    def tracks(self) -> list[Track]:
        """All devices that this source ever found."""
        return [track for line in self.lines for track in line.tracks]

    def status(self, moment: Moment) -> SourceStatus:
        """What `SourceStatus` says of this source at *moment*."""
        problem = self.problem
        waited_s = self.line.reader.busy_for()
        if self.discovering and waited_s > moment.deadline_s:
            problem = f"no answer to finding devices for {duration_text(waited_s)}; its driver hangs"
        devices = sum(not track.vanished for track in self.tracks)
        poll_s = max((line.took_s for line in self.lines if line.took_s is not None), default=None)
        return SourceStatus(self.source.name, devices, poll_s, problem)


class Registry:
    """All devices that were ever found, by key. Short ids are stable for as long as it lives."""

    def __init__(self, complaints: Complaints) -> None:
        self._complaints = complaints
        self._tried: Callable[[Device], tuple[DtypeSpeed, ...]] = lambda _: ()
        self._tracks: dict[str, Track] = {}
        self._new: list[tuple[tuple[int, bool, str, int], Watch, Track]] = []
        self._claims: dict[str, Watch] = {}
        self._counts: dict[DeviceKind, int] = {}
        self._ordered: tuple[Track, ...] = ()

    def get(self, key: str) -> Track | None:
        """The device with that key, if it was ever found."""
        return self._tracks.get(key)

    def find(self, name: str) -> Device:
        """The device of that id, key or ``visible_as``; raises `UnknownDevice`, which lists the ids there are."""
        for track in self._tracks.values():
            device = track.device
            if name and name in (device.id, device.key, device.visible_as):
                return device
        raise UnknownDevice(name, tuple(track.device.id for track in self._ordered))

    def use_trials(self, tried: Callable[[Device], tuple[DtypeSpeed, ...]]) -> None:
        """From now on a device has tried what *tried* says; those that are known at once, others when they are found."""
        self._tried = tried
        for track in self._tracks.values():
            if (renewed := self._complete(track.device)) != track.device:
                track.learn(renewed)

    def _complete(self, device: Device) -> Device:
        able = device.capabilities
        if (speeds := self._tried(device) or able.tried) == able.tried:
            return device
        return replace(device, capabilities=replace(able, tried=speeds))

    def learn(self, watch: Watch, discovery: Discovery, new_reader: Callable[[str], Reader]) -> None:
        """Take in what *watch* found. What it finds no more is lost; what it could not look for stays as it is."""
        watch.problem = discovery.problem
        if discovery.error:
            self._complaints.say(f"{watch.source.name}: {discovery.problem}")
        if discovery.devices is None:
            return
        own = {track.device.key: track for track in watch.tracks}
        for position, device in enumerate(discovery.devices):
            if self._belongs_to_another(watch, device):
                continue
            device = self._complete(device)
            track = own.pop(device.key, None)
            if track is not None:
                if (renewed := replace(device, id=track.device.id)) != track.device:
                    track.learn(renewed)
                if track.vanished:
                    track.reappear()
            elif device.key in self._tracks:
                self._complaints.say(f"{watch.source.name} names a device that is known already: {device.key}")
            else:
                self._add(watch, device, position, new_reader)
        for track in own.values():
            if not track.vanished:
                track.vanish(f"{watch.source.name} finds it no more")

    def admit(self) -> tuple[Track, ...]:
        """All devices, by kind and number, after new ones got their ids: by source, PCI address, order of finding."""
        if self._new:
            for _, watch, track in sorted(self._new, key=lambda entry: entry[0]):
                if self._belongs_to_another(watch, track.device):
                    self._dismiss(watch, track)
                    continue
                self._claims[slot(track.device.pci)] = watch
                kind = track.device.kind
                number = self._counts.get(kind, 0)
                self._counts[kind] = number + 1
                track.device = replace(track.device, id=f"{kind.value}{number}")
                self._ordered += (track,)
            self._new.clear()
            # Stable: within a kind the order of numbers is the order of admission.
            self._ordered = tuple(sorted(self._ordered, key=lambda track: _KINDS.index(track.device.kind)))
        return self._ordered

    def _add(self, watch: Watch, device: Device, position: int, new_reader: Callable[[str], Reader]) -> None:
        line = watch.line
        if watch.source.per_device:
            line = Line(watch.source, new_reader(device.key))
            watch.lines.append(line)
        track = self._tracks[device.key] = Track(device, line)
        line.tracks.append(track)
        self._new.append(((watch.number, device.pci is None, device.pci or "", position), watch, track))

    def _belongs_to_another(self, watch: Watch, device: Device) -> bool:
        """True, with a complaint, while another source shows what sits at the PCI address of *device*."""
        place = slot(device.pci)
        owner = self._claims.get(place)
        if not place or owner is None or owner is watch:
            return False
        if not any(slot(track.device.pci) == place and not track.vanished for track in owner.tracks):
            self._claims[place] = watch
            return False
        self._complaints.say(
            f"{watch.source.name} names {device.key} at PCI address {device.pci}, "
            f"which {owner.source.name} shows already; it is left out"
        )
        return True

    def _dismiss(self, watch: Watch, track: Track) -> None:
        line = track.line
        del self._tracks[track.device.key]
        line.tracks.remove(track)
        if line is not watch.line:
            watch.lines.remove(line)
            line.reader.end()


def slot(pci: str | None) -> str:
    """One spelling of a PCI address: drivers write its domain with four digits or eight, or leave it out."""
    parts = (pci or "").strip().lower().split(":")
    if len(parts) == 2:
        parts.insert(0, "")
    return ":".join((parts[0].lstrip("0"), *parts[1:]))
