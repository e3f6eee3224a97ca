"""The files of one device at one moment: each is read once, with the time next to the read."""

from __future__ import annotations

from typing import Any

from hwdash.core.clock import Clock
from hwdash.core.reading import Absent
from hwdash.sources.chips.origin import Parse, ParseKind
from hwdash.sources.chips.value import cut, cut_document, load_document
from hwdash.sources.sysfs import ReadFailure, Tree


class FileReads:
    """Everything that is read of one device at one tick. For use by one thread."""

    def __init__(self, tree: Tree, clock: Clock) -> None:
        self.tree = tree
        self.clock = clock
        self.now_s = clock.monotonic()
        self._folders: dict[str, str | None] = {}
        self._texts: dict[str, tuple[str | Absent, float]] = {}
        self._documents: dict[str, Any] = {}
        self._pieces: dict[tuple[str, int], list[str] | Absent] = {}

    def text(self, path: str) -> str | Absent:
        """The text of a file, or why it cannot be read."""
        return self._read(path)[0]

    def at_s(self, path: str) -> float:
        """The moment on the monotonic clock at which *path* was read."""
        return self._read(path)[1]

    def pieces(self, path: str, parse: Parse) -> list[str] | Absent:
        """What *parse* cuts out of a file."""
        place = (path, id(parse))
        if (known := self._pieces.get(place)) is not None:
            return known
        text = self.text(path)
        pieces: list[str] | Absent
        if isinstance(text, Absent):
            pieces = text
        elif parse.kind is ParseKind.JSON:
            if path not in self._documents:
                self._documents[path] = load_document(text)
            pieces = cut_document(parse.pointer, self._documents[path])
        else:
            pieces = cut(parse, text)
        self._pieces[place] = pieces
        return pieces

    def first(self, path: str, parse: Parse | None) -> str | Absent:
        """The first piece of a file; without *parse* its whole text, stripped, which may be empty."""
        if parse is None:
            text = self.text(path)
            return text if isinstance(text, Absent) else text.strip()
        pieces = self.pieces(path, parse)
        return pieces if isinstance(pieces, Absent) else pieces[0]

    def _read(self, path: str) -> tuple[str | Absent, float]:
        if (known := self._texts.get(path)) is not None:
            return known
        folder, _, name = path.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self.tree.real(folder)
        real = self._folders[folder]
        text: str | Absent
        try:
            text = self.tree.text(path) if real is None else self.tree.text_beside(real, name)
        except ReadFailure as failure:
            text = failure.reason
        self._texts[path] = (text, self.clock.monotonic())
        return self._texts[path]
