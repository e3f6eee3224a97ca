"""Small trees of files for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hwdash.core.clock import ManualClock
from hwdash.core.device import Device
from hwdash.core.sample import Sample
from hwdash.sources.chips.loader import parse_profile
from hwdash.sources.chips.source import ChipSource

HEAD = (
    'schema = 1\nprofile = { id = "toy", vendor = "Toys", kind = "npu" }\nmatch = { roots = ["/sys/class/toy/toy*"] }\n'
)
"""The beginning of a profile for devices in ``/sys/class/toy``."""


def grow(root: Path, files: Mapping[str, str | bytes | None]) -> Path:
    """Write *files* below *root*; a text ``-> TARGET`` makes a link, None removes the file."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or path.is_file():
            path.unlink()
        if content is None:
            continue
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_text(content)
    return root


class Bench:
    """A source with one user profile over a tree, and a clock that stands until it is moved."""

    def __init__(self, root: Path, profile: str, files: Mapping[str, str | bytes | None]) -> None:
        parse_profile(profile, "profile.toml")
        self.root = grow(root / "tree", files)
        grow(root / "user", {"one.toml": profile})
        self.clock = ManualClock()
        self.source = ChipSource(self.root, self.clock, root / "user")
        self.devices: list[Device] = list(self.source.discover())

    def read(self, files: Mapping[str, str | bytes | None] | None = None, *, after_s: float = 0.0) -> Sample:
        """A sample of the only device, after *files* were changed and the clock was moved."""
        grow(self.root, files or {})
        self.clock.advance(after_s)
        return self.source.read(self.devices[0].key)


def toy(tmp_path: Path, rules: str, files: Mapping[str, str | bytes | None]) -> Bench:
    """A bench with one device ``toy0`` that has *files*."""
    return Bench(tmp_path, HEAD + rules, {f"sys/class/toy/toy0/{name}": content for name, content in files.items()})
