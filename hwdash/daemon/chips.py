"""What ``hwdash chips`` tells: which profiles there are, and what one of them reads. No daemon needs to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hwdash.core.clock import SYSTEM_CLOCK
from hwdash.core.device import DeviceKind
from hwdash.core.errors import UsageError
from hwdash.core.text import sanitise_line
from hwdash.sources.chips.check import InstanceReport, examine
from hwdash.sources.chips.file_read import FileReads
from hwdash.sources.chips.finder import Finder
from hwdash.sources.chips.finding import Finding
from hwdash.sources.chips.folder import BUILTIN
from hwdash.sources.chips.loader import load_profiles, read_profile
from hwdash.sources.chips.origin import Number
from hwdash.sources.chips.place import expand
from hwdash.sources.chips.profile import Profile
from hwdash.sources.chips.table import Problem, ProfileError
from hwdash.sources.chips.template import ROOTS
from hwdash.sources.sysfs import Tree

__all__ = ["Finding", "KnownProfile", "ProfileCheck", "ProfileList", "check_profile", "known_profiles"]

SETTLE_S = 1.0
"""How long a check waits between two reads where a profile has counters of which it shows the rate."""


@dataclass(frozen=True, slots=True)
class KnownProfile:
    """A profile that hwdash uses. ``origin`` is its file, ``builtin`` true when it came with hwdash.

    ``folders`` are the directories of the devices that it finds now.
    """

    id: str
    vendor: str
    kind: DeviceKind
    origin: str
    builtin: bool
    folders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProfileList:
    """All profiles in use, by id, and a sentence with file and line for each mistake in the others."""

    profiles: tuple[KnownProfile, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProfileCheck:
    """A file tried as a profile: its mistakes, or what the profile reads of each device.

    ``advice`` says why there is no device. ``looked`` is what each part of the profile, by kind and name, looks for:
    the paths as they stand in the file; ``reduced`` are the parts in which several files may come together.
    """

    origin: str
    problems: tuple[Problem, ...] = ()
    profile: KnownProfile | None = None
    instances: tuple[InstanceReport, ...] = ()
    advice: str = ""
    looked: Mapping[str, str] = field(default_factory=dict)
    reduced: frozenset[str] = frozenset()


def known_profiles(sysroot: Path, user_folder: Path) -> ProfileList:
    """The built-in profiles and those of *user_folder*, with the devices that each finds below *sysroot*."""
    profiles, problems = load_profiles((BUILTIN, user_folder))
    files = FileReads(Tree(sysroot, ROOTS), SYSTEM_CLOCK)
    known = [
        _known(profile, tuple(f"/{place.folder}" for place in Finder(profile).find(files))) for profile in profiles
    ]
    return ProfileList(tuple(sorted(known, key=lambda profile: profile.id)), problems)


def check_profile(path: Path, sysroot: Path, waiting: Callable[[float], None] = lambda _: None) -> ProfileCheck:
    """Read *path* as a profile and try it on the files below *sysroot*. Blocks for a moment where there are rates.

    *waiting* is told for how many seconds. Raises `UsageError` when the file or the directory cannot be read.
    """
    try:
        profile = read_profile(path)
    except ProfileError as error:
        return ProfileCheck(str(path), problems=error.problems)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file", param="FILE") from None
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or "no name of a file"
        raise UsageError(f"{path}: cannot be read: {words}", param="FILE") from None
    settle_s = SETTLE_S if any(metric.rate for metric in profile.metrics) else 0.0
    if settle_s and Finder(profile).find(FileReads(Tree(sysroot, ROOTS), SYSTEM_CLOCK)):
        waiting(settle_s)
    instances = examine(profile, sysroot, SYSTEM_CLOCK, settle_s=settle_s)
    known = _known(profile, tuple(instance.folder for instance in instances))
    advice = "" if instances else _why_none(profile, sysroot)
    parts = _parts(profile)
    looked = {name: _paths_of(number) for name, number in parts.items()}
    reduced = frozenset(name for name, number in parts.items() if any(origin.reduce for origin in number.origins))
    return ProfileCheck(str(path), (), known, instances, advice, looked, reduced)


def _known(profile: Profile, folders: tuple[str, ...]) -> KnownProfile:
    builtin = Path(profile.origin).parent == BUILTIN
    return KnownProfile(profile.id, profile.vendor, profile.kind, profile.origin, builtin, folders)


def _parts(profile: Profile) -> dict[str, Number]:
    """What is read for each part of *profile*, by the kind and name that its finding has."""
    parts = {f"metric {metric.id}": metric.number for metric in profile.metrics}
    for pool in profile.pools:
        numbers = {"used": pool.used, "total": pool.total, "free": pool.free}
        parts |= {f"memory {pool.id}.{name}": number for name, number in numbers.items() if number is not None}
    parts |= {f"throttle {entry.id}": Number((entry.origin,)) for entry in profile.throttle}
    return parts | ({"processes pids": Number((profile.pids.origin,))} if profile.pids is not None else {})


def _paths_of(number: Number) -> str:
    return sanitise_line(", ".join(template.text for origin in number.origins for template in origin.paths), 1000)


def _why_none(profile: Profile, sysroot: Path) -> str:
    """Why *profile* finds nothing: no directory of that name, or none that satisfies what it requires."""
    tree = Tree(sysroot, ROOTS)
    roots = profile.match.roots
    folders = [path for root in roots for path in expand(tree, root.strip("/")) if tree.is_folder(path)]
    refused = list({tree.real(path): path for path in reversed(folders)}.values())[::-1]
    if refused:
        many = "1 directory has" if len(refused) == 1 else f"{len(refused)} directories have"
        return f"{many} the right name (/{refused[0]}), and none satisfies [match] require"
    return f"there is no directory {' or '.join(roots)}"
