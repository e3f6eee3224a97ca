"""The pane that explains the ranking of the device under the cursor."""

from __future__ import annotations

from collections.abc import Sequence

from hwdash.core.ranking import Ranking, order_text
from hwdash.tui.explanation import explanation_lines
from hwdash.tui.fact import laid_out
from hwdash.tui.gauge import Fact
from hwdash.tui.line import Line
from hwdash.tui.pane import ScrollPane
from hwdash.tui.row import Row


class WhyPane(ScrollPane):
    """Score, its parts, what is expected, and the reasons; of an excluded device why."""

    def __init__(self) -> None:
        super().__init__()
        self._ranking: Ranking | None = None
        self._note = ""

    def tell(self, row: Row | None, ranking: Ranking | None, note: str = "") -> None:
        """Explain *row* of *ranking*; *note* is what else is to be said of that."""
        self._ranking, self._note = ranking, note
        self.show(row)

    def heading(self, row: Row) -> str:
        """The place, and under which policy."""
        ranking, dot = self._ranking, self.glyphs.dot
        if ranking is None:
            return "no ranking"
        place = "excluded" if row.excluded else "no rank"
        if row.rank is not None:
            place = f"rank {row.rank} of {len(ranking.ranked)}"
        return f" {dot} ".join(part for part in (place, ranking.policy, self._note) if part)

    def content(self, row: Row, width: int) -> Sequence[Line]:
        """The explanation."""
        weights = {} if self._ranking is None else self._ranking.weights
        lines = explanation_lines(row, weights, width, self.glyphs)
        if self._ranking is not None and row.ranked is not None and (note := order_text(self._ranking)):
            lines += laid_out([Fact("", note, "muted")], width, self.glyphs)
        return lines
