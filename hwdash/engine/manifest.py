"""The list of a stored model's files with their sizes and hashes: what makes a directory a finished pull."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from hwdash.core.errors import ModelError

MANIFEST = "manifest.json"
_BLOCK = 1024 * 1024


class StoredFile(msgspec.Struct, frozen=True):
    """One file of a model."""

    path: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """Where a stored model came from and what it consists of. ``created`` is UTC."""

    name: str
    source: str
    license: str
    revision: str
    created: datetime
    files: tuple[StoredFile, ...]

    @property
    def size_bytes(self) -> int:
        """The bytes of all files together."""
        return sum(file.size for file in self.files)


def write_manifest(directory: Path, name: str, source: str, license_name: str, revision: str) -> Manifest:
    """Hash every file in *directory* and write its manifest there. Blocks for as long as reading takes."""
    files = tuple(
        StoredFile(str(path.relative_to(directory)), path.stat().st_size, sha256_of(path))
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    )
    manifest = Manifest(name, source, license_name, revision, datetime.now(UTC), files)
    (directory / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    return manifest


def read_manifest(directory: Path) -> Manifest | None:
    """The manifest of *directory*; None where there is none or it is damaged."""
    try:
        return msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def check_sizes(directory: Path, manifest: Manifest, advice: str) -> None:
    """Raise `ModelError`, ending with *advice*, for the first file that is missing or has changed its size."""
    for file in manifest.files:
        path = directory / file.path
        try:
            size = path.stat().st_size
        except OSError:
            raise ModelError(f"{path} is missing; {advice}") from None
        if size != file.size:
            raise ModelError(f"{path} is damaged: {size} bytes instead of {file.size}; {advice}")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
