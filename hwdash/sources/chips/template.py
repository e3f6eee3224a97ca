"""Paths with places to fill in: ``{hwmon}/temp*_input``, ``/sys/bus/pci/devices/{read:busname}``."""

from __future__ import annotations

import posixpath
import re

from hwdash.sources.chips.origin import PartKind, Template

ROOTS = ("sys", "proc/driver")
"""Where a profile may read, without the leading slash."""

_PLACE = re.compile(r"\{(\{|[^{}]*\})|\}\}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_FILE = re.compile(r"[^*?\[\]{}\0]{1,100}")
_MAGIC = re.compile(r"[*?[]")


class BadTemplate(Exception):
    """The text is no path or template. The message says why."""


def parse_template(text: str, *, path: bool = True) -> Template:
    """The template *text*; with *path* it must be a path that can lie below `ROOTS`. Raises `BadTemplate`.

    ``{{`` and ``}}`` are braces.
    """
    if not text or "\0" in text or "\n" in text or len(text) > 300:
        raise BadTemplate("must be one line of 1 to 300 characters")
    parts: list[tuple[PartKind, str]] = []
    rest = 0
    for match in _PLACE.finditer(text):
        _add_text(parts, text[rest : match.start()])
        rest = match.end()
        if match[0] in ("{{", "}}"):
            _add_text(parts, match[0][0])
        else:
            parts.append(_place(match[1][:-1]))
    _add_text(parts, text[rest:])
    if path:
        _check_path(text, parts)
    return Template(text, tuple(parts))


def has_magic(text: str) -> bool:
    """True when *text* is a glob and no plain name."""
    return _MAGIC.search(text) is not None


def is_anchor_name(text: str) -> bool:
    """True when *text* can be the name of an anchor."""
    return _NAME.fullmatch(text) is not None


def anchors_of(template: Template) -> frozenset[str]:
    """The names of the anchors that *template* needs."""
    return frozenset(name for kind, name in template.parts if kind is PartKind.ANCHOR)


def _add_text(parts: list[tuple[PartKind, str]], text: str) -> None:
    if parts and parts[-1][0] is PartKind.TEXT:
        parts[-1] = (PartKind.TEXT, parts[-1][1] + text)
    elif text:
        parts.append((PartKind.TEXT, text))


def _place(inside: str) -> tuple[PartKind, str]:
    if inside in (PartKind.INSTANCE, PartKind.INSTANCE_NUMBER):
        return PartKind(inside), ""
    if inside.startswith("read:"):
        file = inside.removeprefix("read:")
        if not _FILE.fullmatch(file) or file.startswith("/") or ".." in file.split("/"):
            raise BadTemplate("has a {read:FILE} whose FILE is no plain path below the device")
        return PartKind.READ, file
    if not is_anchor_name(inside):
        raise BadTemplate(f"has {{{inside}}}, which is no name of an anchor, read:FILE, instance or instance_number")
    return PartKind.ANCHOR, inside


def _check_path(text: str, parts: list[tuple[PartKind, str]]) -> None:
    if "**" in text:
        raise BadTemplate("has **: a glob goes one directory deep for each * or name")
    if any(kind is PartKind.ANCHOR for kind, _ in parts[1:]):
        raise BadTemplate("has an anchor that does not stand at its beginning")
    if parts[0][0] is PartKind.TEXT and parts[0][1].startswith("/"):
        # What is filled in is always a name: one step down.
        check_root("".join(part if kind is PartKind.TEXT else "x" for kind, part in parts))


def check_root(text: str) -> None:
    """Raise `BadTemplate` when the absolute path *text*, its ``..`` worked out, does not lie below `ROOTS`."""
    plain = posixpath.normpath(text)
    if not any(text.startswith(f"/{root}/") and plain.startswith(f"/{root}/") for root in ROOTS):
        raise BadTemplate("does not lie below /sys or /proc/driver, and a profile reads nowhere else")
