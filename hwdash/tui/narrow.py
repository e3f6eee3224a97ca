"""Screen updates that send changed cells only.

Textual 8.2 repaints a dirty region from the left edge of the widget that it lies in, with a full colour sequence and a
reset for every piece. Over SSH that is most of the traffic. `NarrowUpdate` sends the same spans cut at both ends, and
a colour only when it differs from the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate
from textual.strip import Strip

_MARK = "\0"


class NarrowUpdate(ChopsUpdate):
    """A `ChopsUpdate` in as few bytes as the cells need."""

    @classmethod
    def of(cls, update: ChopsUpdate) -> NarrowUpdate:
        """The same update, narrow."""
        return cls(update.chops, update.spans, update.chop_ends)

    def render_segments(self, console: Console) -> str:
        """The terminal sequences of this update."""
        system = _SYSTEMS.get(console.color_system or "", ColorSystem.TRUECOLOR)
        out: list[str] = []
        current = ""
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                left, right = max(x, x1), min(end, x2)
                if strip is None or left >= right:
                    continue
                out.append(f"\x1b[{y + 1};{left + 1}H")
                for text, style, _ in _cut(strip, left - x, right - x):
                    if style is not None and style.link:
                        out.append(f"\x1b[0m{style.render(text, color_system=system)}")
                        current = ""
                        continue
                    codes = "" if style is None else _codes(style, system)
                    if codes != current:
                        out.append(f"\x1b[0;{codes}m" if codes else "\x1b[0m")
                        current = codes
                    out.append(text)
        if current:
            out.append("\x1b[0m")
        return "".join(out)


def _cut(strip: Strip, left: int, right: int) -> Iterator[Segment]:
    """The segments of *strip* from cell *left* to *right*, without the new strip that `Strip.crop` would make."""
    end = 0
    for segment in strip:
        start, end = end, end + segment.cell_length
        if segment.control or end <= left or start == end:
            continue
        if start >= right:
            return
        if end > right:
            segment, _ = segment.split_cells(right - start)
        if start < left:
            _, segment = segment.split_cells(left - start)
        yield segment


_SYSTEMS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
    "windows": ColorSystem.WINDOWS,
}


@lru_cache(maxsize=1024)
def _codes(style: Style, system: ColorSystem) -> str:
    """The SGR parameters of *style*, without the sequence around them."""
    before, _, _ = style.render(_MARK, color_system=system).partition(_MARK)
    return before.removeprefix("\x1b[").removesuffix("m")
