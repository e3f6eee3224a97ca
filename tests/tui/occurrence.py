"""Events for the dashboard's tests and pictures, all with fixed times."""

from __future__ import annotations

from datetime import timedelta

from hwdash.core.event import AlertAction, Event, EventKind, Severity
from hwdash.core.health import HealthState
from tests.tui.sample import START, gpu


def health(
    ago_s: float, device: int, before: HealthState | None, after: HealthState, words: str, **more: object
) -> Event:
    """A change of state of gpu*device*, *ago_s* seconds before `START`."""
    severity = {HealthState.OK: Severity.INFO, HealthState.LOST: Severity.CRITICAL}.get(after, Severity.WARNING)
    return Event(
        START - timedelta(seconds=ago_s),
        gpu(device).key,
        EventKind.HEALTH,
        severity,
        words,
        device=f"gpu{device}",
        before=before,
        after=after,
        **more,  # type: ignore[arg-type]
    )


def alert(ago_s: float, device: int = 2, *, active: bool = True, number: int = 0, **more: object) -> Event:
    """The rule hot-memory began or ended."""
    return Event(
        START - timedelta(seconds=ago_s),
        gpu(device).key,
        EventKind.ALERT,
        Severity.WARNING if active else Severity.INFO,
        "hot-memory: memory temperature 97 °C, above 95 °C for 30 s" if active else "hot-memory ended after 3 min",
        device=f"gpu{device}",
        number=number,
        rule="hot-memory",
        active=active,
        **({"actions": (AlertAction.TOAST, AlertAction.BELL)} | more),  # type: ignore[arg-type]
    )


def reported(ago_s: float, words: str, device: int = 6, number: int = 0) -> Event:
    """Something that the driver reported."""
    return Event(
        START - timedelta(seconds=ago_s),
        gpu(device).key,
        EventKind.DEVICE,
        Severity.CRITICAL,
        words,
        device=f"gpu{device}",
        number=number,
    )


def past_events() -> tuple[Event, ...]:
    """An hour on eight devices."""
    return (
        health(86_500, 0, None, HealthState.OK, "gpu0 found: ok"),
        health(
            3000, 3, HealthState.OK, HealthState.THROTTLED, "power cap: clock 1395 of 1980 MHz", throttle=("power_cap",)
        ),
        health(2700, 3, HealthState.THROTTLED, HealthState.OK, "ok after 5 min 0 s of power cap"),
        alert(2400),
        alert(2220, active=False),
        health(
            900,
            1,
            HealthState.OK,
            HealthState.THROTTLED,
            "clock 1410 of its usual 1965 MHz at 98 % load for 30 s",
            suspected=True,
            reasons=("clock 1410 of its usual 1965 MHz at 98 % load for 30 s", "no limit is reported"),
        ),
        health(600, 5, HealthState.OK, HealthState.STALE, "no sample for 3 s: the driver does not answer"),
        reported(62, "XID 79: GPU has fallen off the bus"),
        health(
            61,
            6,
            HealthState.OK,
            HealthState.LOST,
            "the driver says that the device is gone",
            reasons=("the driver says that the device is gone", "last sample: 71 °C, 655 W, 1980 MHz"),
        ),
    )
