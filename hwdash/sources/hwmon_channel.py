"""The numbers in the files of hwmon sensors, in base units and within what working hardware can report.

Units after the kernel document "hwmon/sysfs-interface": millidegrees Celsius, microwatts, millivolts, turns a minute.
"""

from __future__ import annotations

from hwdash.core.reading import Reading, present
from hwdash.sources.sysfs import Tree

_LOWEST_MC, _HIGHEST_MC = -40_000.0, 150_000.0
"""What a working processor or card can report in millidegrees; firmware without a sensor answers outside of it."""

_HIGHEST_UW = 1e10


def celsius(tree: Tree, path: str) -> Reading:
    """The temperature in a file of millidegrees, in °C."""
    return tree.number(path, _LOWEST_MC, _HIGHEST_MC, 1e-3)


def celsius_limit(tree: Tree, path: str) -> float | None:
    """A limit in a file of millidegrees, in °C; None where there is none or it is not above zero."""
    return present(tree.number(path, 1.0, _HIGHEST_MC, 1e-3))


def watts(tree: Tree, path: str) -> Reading:
    """The power in a file of microwatts, in W."""
    return tree.number(path, 0.0, _HIGHEST_UW, 1e-6)


def watts_limit(tree: Tree, path: str) -> float | None:
    """A limit in a file of microwatts, in W; None where there is none or it is 0, which means that it is off."""
    return present(tree.number(path, 1.0, _HIGHEST_UW, 1e-6))


def volts(tree: Tree, path: str) -> Reading:
    """The voltage in a file of millivolts, in V."""
    return tree.number(path, 0.0, 5000.0, 1e-3)


def fan_rpm(tree: Tree, path: str) -> Reading:
    """The speed of a fan."""
    return tree.number(path, 0.0, 30_000.0)
