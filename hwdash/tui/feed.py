"""The newest snapshot and how the dashboard stands with the daemon."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hwdash.core.health import STALE_AFTER_INTERVALS
from hwdash.core.probe import UptimeHistory
from hwdash.core.replay import ReplayState
from hwdash.core.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Feed:
    """What the app knows. ``problem`` is empty while snapshots come in; ``age_s`` is the snapshot's age on this machine's clock.

    ``troubles`` are the daemon's own sentences about what is degraded; ``unseen`` counts warnings and worse since the
    events were last looked at. ``uptime`` is how devices stood their probes, with those of the last hour.
    """

    snapshot: Snapshot | None = None
    problem: str = ""
    age_s: float = 0.0
    troubles: tuple[str, ...] = ()
    unseen: int = 0
    uptime: UptimeHistory | None = None

    @property
    def is_old(self) -> bool:
        """True when the data on screen must not be taken for the present."""
        if self.snapshot is None:
            return False
        return bool(self.problem) or self.age_s > max(STALE_AFTER_INTERVALS * self.snapshot.interval_s, 2.0)

    @property
    def replay(self) -> ReplayState | None:
        """Where the replay stands; None while hardware is watched."""
        return self.snapshot.replay if self.snapshot is not None else None

    def device_names(self, others: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
        """The short name of every device by its stable key: those that are there, then what *others* has besides."""
        devices = self.snapshot.devices if self.snapshot is not None else ()
        names = {status.device.key: status.device.id for status in devices}
        for key, name in others:
            names.setdefault(key, name)
        return names
