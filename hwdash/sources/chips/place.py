"""Where the files of one device are: its directory, its anchors, and paths filled in."""

from __future__ import annotations

import fnmatch
import glob
import re

from hwdash.core.pci import pci_in_path
from hwdash.core.reading import Absent
from hwdash.sources.chips.file_read import FileReads
from hwdash.sources.chips.origin import PartKind, Template
from hwdash.sources.chips.pattern import matches_whole
from hwdash.sources.chips.profile import Anchor, AnchorKind
from hwdash.sources.chips.template import has_magic
from hwdash.sources.sysfs import Tree

MAX_PATHS = 256
"""The most files that one path with a glob stands for."""

_LITERAL = re.compile(r"\[([*?\[])\]")


class Place:
    """The directory of one device, below the root and without a leading slash, and the anchors found from it.

    ``instance`` is its name: the last part of *folder* that a glob stood for.
    """

    def __init__(self, folder: str, instance: str) -> None:
        self.folder = folder
        self.instance = instance
        self.anchors: dict[str, str] = {}

    def find_anchors(self, anchors: tuple[Anchor, ...], files: FileReads, *, quietly: bool = False) -> str:
        """Find all *anchors*; the id of one that is missing and not optional, else an empty text.

        *quietly* leaves out those for which a file would have to be read.
        """
        self.anchors = {}
        missing = ""
        for anchor in anchors:
            if quietly and anchor.pattern is not None:
                continue
            found = self._find(anchor, files)
            if found is not None:
                self.anchors[anchor.id] = found
            elif not anchor.optional:
                missing = missing or anchor.id
        return missing

    def fill(self, template: Template, files: FileReads, *, escape: bool = False) -> str | None:
        """*template* as text; None when an anchor or a file that it needs is not there."""
        pieces: list[str] = []
        for kind, text in template.parts:
            value: str | None = text
            if kind is PartKind.ANCHOR:
                anchor = self.anchors.get(text)
                value = None if anchor is None else f"/{anchor}"
            elif kind is PartKind.INSTANCE:
                value = self.instance
            elif kind is PartKind.INSTANCE_NUMBER:
                value = next(reversed(re.findall(r"[0-9]+", self.instance)), None)
            elif kind is PartKind.READ:
                value = self._name_in(text, files)
            if value is None:
                return None
            pieces.append(glob.escape(value) if escape and kind is not PartKind.TEXT else value)
        return "".join(pieces)

    def paths(self, template: Template, files: FileReads) -> list[str]:
        """The files that *template* stands for: one without a glob, which need not exist; those that there are else."""
        filled = self.fill(template, files, escape=True)
        if filled is None:
            return []
        if filled.startswith("/"):
            return expand(files.tree, filled.lstrip("/"))
        return expand(files.tree, f"{glob.escape(self.folder)}/{filled}")

    def path(self, template: Template, files: FileReads) -> str | None:
        """The first of `paths`."""
        return next(iter(self.paths(template, files)), None)

    def pci_slot(self, tree: Tree) -> str | None:
        """The address on the PCI bus that the anchor ``pci`` or the device's directory has, however it is linked."""
        for folder in (self.anchors.get("pci"), self.folder):
            if folder is not None and (address := pci_in_path(tree.real(folder) or "")) is not None:
                return str(address)
        return None

    def _find(self, anchor: Anchor, files: FileReads) -> str | None:
        for path in self.paths(anchor.path, files):
            folder = files.tree.real(path) if anchor.kind is AnchorKind.LINK else path
            if folder is None or not files.tree.is_folder(folder):
                continue
            if anchor.pattern is not None:
                name = files.first(f"{folder}/name", None)
                if isinstance(name, Absent) or not matches_whole(anchor.pattern, name):
                    continue
            return folder
        return None

    def _name_in(self, file: str, files: FileReads) -> str | None:
        """The one name that a file of the device consists of: never a path."""
        text = files.first(f"{self.folder}/{file}", None)
        if isinstance(text, Absent):
            return None
        return (
            text if 0 < len(text) < 256 and "/" not in text and text not in (".", "..") and text.isprintable() else None
        )


def expand(tree: Tree, pattern: str, limit: int = MAX_PATHS) -> list[str]:
    """The paths that *pattern* stands for, in natural order; a path without a glob as it is, whether it exists or not."""
    return [path for path, _ in expand_named(tree, pattern, limit)]


def expand_named(tree: Tree, pattern: str, limit: int) -> list[tuple[str, str]]:
    """The paths as of `expand`, each with the last of its parts that a glob stood for (else its last part)."""
    found = [("", "")]
    globbed = False
    for part in pattern.split("/"):
        literal = _LITERAL.sub(lambda match: match[1], part)
        if not has_magic(_LITERAL.sub("", part)):
            found = [(f"{folder}/{literal}" if folder else literal, name) for folder, name in found]
            continue
        globbed = True
        matches = _matcher(part)
        found = [
            (f"{folder}/{name}" if folder else name, name)
            for folder, _ in found
            for name in tree.names(folder)
            if matches.match(name)
        ][:limit]
    if not globbed:
        return [(path, path.rpartition("/")[2]) for path, _ in found]
    if has_magic(_LITERAL.sub("", pattern.rpartition("/")[2])):
        return found
    # What stands behind the glob may be missing in some of the directories.
    return [(path, name) for path, name in found if tree.exists(path)]


def _matcher(part: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(part))
