"""Which device takes a prompt, and why. Pure."""

from __future__ import annotations

from hwdash.core.errors import NoSuitableDevice
from hwdash.core.inference import AUTO, Route
from hwdash.core.ranking import Ranking
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.routing.rank import unsuitable


def choose(snapshot: Snapshot, ranking: Ranking, requested: str) -> tuple[DeviceStatus, Route]:
    """The device for a prompt that asks for *requested* (an id, a key, or ``auto``), and the reasons.

    *ranking* is the one of *snapshot*. Raises `UnknownDevice` for a name that no device has, and `NoSuitableDevice`,
    with each device's reason, when the device that is asked for, or all of them, cannot run a model now.
    """
    if requested == AUTO:
        return _best(snapshot, ranking)
    status = snapshot.find(requested)
    if why := unsuitable(status):
        raise NoSuitableDevice(
            f"{status.device.id} cannot take the prompt: {'; '.join(why)}; choose another device or auto",
            param="device",
        )
    return status, Route(requested, ("asked for by name", *status.health.reasons))


def _best(snapshot: Snapshot, ranking: Ranking) -> tuple[DeviceStatus, Route]:
    if not ranking.ranked:
        if not ranking.excluded:
            raise NoSuitableDevice("no device was found; `hwdash status` says what is missing", param="device")
        reasons = "; ".join(f"{device.device}: {', '.join(device.why)}" for device in ranking.excluded)
        raise NoSuitableDevice(f"no device can take the prompt ({reasons}); see `hwdash devices`", param="device")
    first = ranking.ranked[0]
    count = len(ranking.ranked)
    place = f"best of {count} devices, score {first.score:.3f}" if count > 1 else "the only device that can run it"
    return snapshot.find(first.device), Route(AUTO, (place, *first.why))
