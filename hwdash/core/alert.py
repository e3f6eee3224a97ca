"""Alert rules: what a user wants to be told of."""

from __future__ import annotations

from dataclasses import dataclass, field

from hwdash.core.event import AlertAction, Severity
from hwdash.core.health import HealthState


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One rule, called *name*. It holds for a device when its condition has held for ``for_s`` seconds without a break.

    The condition is either a state (``state``: this one or worse) or a metric with one bound: ``above`` or ``below``,
    in the metric's base unit. ``devices`` are patterns of ids or keys (``gpu*``). The rule ends when its condition has
    not held for ``for_s`` seconds. While it goes on, and for ``every_s`` seconds after it began, it is not told again.
    """

    name: str
    metric: str | None = None
    above: float | None = None
    below: float | None = None
    state: HealthState | None = None
    for_s: float = 0.0
    every_s: float = 300.0
    devices: tuple[str, ...] = ("*",)
    severity: Severity = Severity.WARNING
    actions: tuple[AlertAction, ...] = (AlertAction.TOAST, AlertAction.LOG)


@dataclass(frozen=True, slots=True)
class AlertConfig:
    """All rules, and where those with the action ``webhook`` are sent: an https URL, or http on the loopback.

    The URL is not part of the ``repr``: it may hold a secret.
    """

    webhook: str | None = field(default=None, repr=False)
    rules: tuple[AlertRule, ...] = ()
