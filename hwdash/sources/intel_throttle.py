"""Intel's throttle reasons, one file of 0 or 1 each, in the vendor-neutral vocabulary.

Names after the Linux drivers i915 (drivers/gpu/drm/i915/gt/intel_gt_sysfs_pm.c, ``throttle_reason_*``) and xe
(drivers/gpu/drm/xe/xe_gt_throttle.c, ``reason_*``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from hwdash.core.reading import is_present, present
from hwdash.core.text import sanitise_line
from hwdash.core.throttle import ThrottleReason
from hwdash.sources.sysfs import Tree

_REASONS: Mapping[str, ThrottleReason] = MappingProxyType(
    dict.fromkeys(("pl1", "pl2", "pl4", "psys_pl1", "psys_pl2"), ThrottleReason.POWER_CAP)
    | dict.fromkeys(("thermal", "ratl", "soc_thermal", "soc_avg_thermal"), ThrottleReason.THERMAL_SW)
    | dict.fromkeys(("vr_thermalert", "vr_thermal"), ThrottleReason.THERMAL_HW)
    | dict.fromkeys(("vr_tdc", "iccmax", "fastvmode"), ThrottleReason.CURRENT_LIMIT)
    | {"prochot": ThrottleReason.PROCHOT, "mem_thermal": ThrottleReason.MEMORY_THERMAL}
)
"""Package power limits; temperatures (RATL: their running average) of chip and regulators; currents."""

_FILE = re.compile(r"(?:throttle_)?reason_([a-z0-9_]{1,40})")
_MAX_FILES = 64


@dataclass(frozen=True, slots=True)
class ReasonFolder:
    """The files of one graphics unit: that which sums them up, if any, and those of the reasons by name."""

    status: str | None
    reasons: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def find_reasons(tree: Tree, folder: str) -> ReasonFolder | None:
    """The throttle reasons in *folder*; None where there are none."""
    names = {match[1]: f"{folder}/{name}" for name in tree.names(folder) if (match := _FILE.fullmatch(name))}
    status = names.pop("status", f"{folder}/status")
    if not names:
        return None
    return ReasonFolder(status if tree.line(status) is not None else None, dict(list(names.items())[:_MAX_FILES]))


def reasons_known(folders: tuple[ReasonFolder, ...]) -> frozenset[ThrottleReason]:
    """The reasons that files stand for."""
    return frozenset(_REASONS[name] for folder in folders for name in folder.reasons if name in _REASONS)


def read_reasons(tree: Tree, folders: tuple[ReasonFolder, ...]) -> tuple[frozenset[ThrottleReason] | None, str | None]:
    """The reasons in force, and the names of those without a word for them; None when no file can be read.

    Where a unit sums up that nothing limits it, its single reasons are not asked for.
    """
    told = False
    names: list[str] = []
    for folder in folders:
        status = tree.number(folder.status, 0.0, 1.0) if folder.status is not None else None
        told = told or is_present(status)
        if status == 0.0:
            continue
        answers = {name: present(tree.number(path, 0.0, 1.0)) for name, path in folder.reasons.items()}
        told = told or any(answer is not None for answer in answers.values())
        active = [name for name, answer in answers.items() if answer]
        names += active if active or not status else ["status"]
    if not told:
        return None, None
    unknown = sorted({name for name in names if name not in _REASONS})
    flags = {_REASONS.get(name, ThrottleReason.UNKNOWN) for name in names}
    return frozenset(flags), sanitise_line(", ".join(unknown), 100) or None
