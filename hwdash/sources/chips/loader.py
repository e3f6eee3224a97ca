"""From TOML to profiles: every mistake found at once, with its line."""

from __future__ import annotations

import dataclasses
import errno
import re
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

from hwdash.core.device import DeviceKind
from hwdash.core.text import sanitise_line
from hwdash.sources.chips.metric_form import read_metrics, read_pools, read_throttles
from hwdash.sources.chips.origin import Number
from hwdash.sources.chips.profile import MAX_METRICS, MAX_TEXT, Edges, Profile
from hwdash.sources.chips.section_form import (
    read_abilities,
    read_anchors,
    read_computing,
    read_edges,
    read_identity,
    read_match,
    read_pids,
    read_skip_when,
    read_status,
)
from hwdash.sources.chips.table import Problem, ProfileError, Table, load_table

MAX_FILES = 200
"""The most files of one folder that are looked at."""

_ID = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)


def parse_profile(text: str, origin: str) -> Profile:
    """The profile of a TOML *text*; *origin* names the file in messages.

    Raises `ProfileError` with all mistakes: broken TOML, unknown keys, wrong types, units of another dimension.
    """
    if len(text) > MAX_TEXT:
        raise ProfileError([Problem(1, "", f"is longer than {MAX_TEXT} characters", origin)])
    table = load_table(text, origin)
    profile = _profile(table, origin)
    table.report.stop()
    return profile


def read_profile(path: Path) -> Profile:
    """The profile in the file *path*. Raises `ProfileError` with all mistakes, `OSError` for a file that cannot be read."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a plain file")
    with path.open("rb") as file:
        data = file.read(4 * MAX_TEXT + 1)
    try:
        # The cut of what is too long anyway may go through a character.
        text = data.decode("utf-8", "strict" if len(data) <= 4 * MAX_TEXT else "replace")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ProfileError([Problem(line, "", "is not UTF-8 text", str(path))]) from None
    return parse_profile(text, str(path))


def load_profiles(folders: Sequence[Path]) -> tuple[tuple[Profile, ...], tuple[str, ...]]:
    """The profiles of all ``*.toml`` files of *folders*, and a sentence for each mistake.

    A profile of a later folder takes the place of one with the same id; of two in one folder the first by name counts.
    A folder that is not there has none. Never raises for what a file holds.
    """
    profiles: dict[str, Profile] = {}
    sentences: list[str] = []
    for folder in folders:
        seen: dict[str, Profile] = {}
        for path in _files(folder, sentences):
            try:
                profile = read_profile(path)
            except ProfileError as error:
                sentences.extend(str(problem) for problem in error.problems)
            except OSError as error:
                sentences.append(f"{sanitise_line(str(path))}: {error.strerror or 'cannot be read'}")
            else:
                if (first := seen.setdefault(profile.id, profile)) is not profile:
                    sentences.append(
                        f"{sanitise_line(str(path))}: {profile.id} is in {Path(first.origin).name} already"
                    )
        profiles.update(seen)
    return tuple(profiles.values()), tuple(sentences)


def _files(folder: Path, sentences: list[str]) -> list[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix == ".toml")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        sentences.append(f"{sanitise_line(str(folder))}: {getattr(error, 'strerror', None) or 'cannot be listed'}")
        return []
    if len(found) > MAX_FILES:
        sentences.append(f"{sanitise_line(str(folder))}: only the first {MAX_FILES} of {len(found)} profiles are used")
    return found[:MAX_FILES]


def _profile(table: Table, origin: str) -> Profile:
    schema = table.take("schema")
    if schema != 1 or isinstance(schema, bool):
        table.wrong("schema" if "schema" in table else "", "must say schema = 1" if schema is None else "must be 1")
    id_, vendor, kind, note = _head(table)
    anchors = read_anchors(table)
    metrics, power_limit = read_metrics(inner) if (inner := table.table("metrics")) is not None else ((), None)
    pools = read_pools(table.tables("memory", most=MAX_METRICS))
    throttles = read_throttles(table.tables("throttle", most=MAX_METRICS))
    if len(metrics) + len(pools) + len(throttles) > MAX_METRICS:
        table.wrong("", f"has more than {MAX_METRICS} metrics, pools and throttle entries")
    profile = Profile(
        id=id_,
        vendor=vendor,
        kind=kind,
        origin=origin,
        match=read_match(table),
        anchors=anchors,
        identity=read_identity(table),
        status=read_status(table),
        metrics=metrics,
        pools=pools,
        throttle=throttles,
        edges=_edges(table, power_limit),
        abilities=read_abilities(table),
        pids=read_pids(table),
        computing=read_computing(table),
        skip_when=read_skip_when(table),
        note=note,
    )
    table.finish()
    table.report.check_anchors({anchor.id for anchor in anchors})
    return profile


def _edges(table: Table, power_limit: Number | None) -> Edges:
    """The limits of ``[limits]`` and ``[thresholds]``, and the one that stands among the metrics."""
    edges = read_edges(table)
    if power_limit is None:
        return edges
    if "power_w" in edges.numbers:
        table.wrong("limits", "has power_w, and [metrics] has power_limit: one is enough")
    return dataclasses.replace(edges, numbers=MappingProxyType({**edges.numbers, "power_w": power_limit}))


def _head(table: Table) -> tuple[str, str, DeviceKind, str]:
    inner = table.table("profile")
    if inner is None:
        if "profile" not in table:
            table.wrong("", "has no profile with id, vendor and kind")
        return "", "", DeviceKind.OTHER, ""
    id_ = inner.text("id", required=True, longest=32)
    if id_ and not _ID.fullmatch(id_):
        inner.wrong("id", "must be lower case letters, digits, - and _, beginning with a letter")
    vendor = sanitise_line(inner.text("vendor", required=True, longest=60))
    kind = DeviceKind(inner.choice("kind", tuple(DeviceKind), DeviceKind.OTHER))
    if "kind" not in inner:
        inner.wrong("", f"has no kind; one of {', '.join(DeviceKind)}")
    note = sanitise_line(inner.text("note"), 400)
    inner.finish()
    return id_, vendor, kind, note
