"""The pane that explains the ranking of the device under the cursor."""

from __future__ import annotations

from collections.abc import Sequence

from hwdash.tui.explanation import explanation_lines
from hwdash.tui.line import Line
from hwdash.tui.pane import ScrollPane
from hwdash.tui.row import Row


class WhyPane(ScrollPane):
    """Score, its parts, what is expected, and the reasons; of an excluded device why."""

    def __init__(self) -> None:
        super().__init__()
        self._policy = ""
        self._count = 0
        self._note = ""

    def tell(self, row: Row | None, policy: str, count: int, note: str = "") -> None:
        """Explain *row* of a ranking of *count* devices under *policy*; *note* is what else is to be said of it."""
        self._policy, self._count, self._note = policy, count, note
        self.show(row)

    def heading(self, row: Row) -> str:
        """The place, and under which policy."""
        place = (
            f"rank {row.rank} of {self._count}" if row.rank is not None else "excluded" if row.excluded else "no rank"
        )
        dot = self.glyphs.dot
        return f" {dot} ".join(part for part in (place, self._policy, self._note) if part)

    def content(self, row: Row, width: int) -> Sequence[Line]:
        """The explanation."""
        return explanation_lines(row, width, self.glyphs)
