"""Which columns the device table has at a given width, and how wide each is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from hwdash.tui import cell
from hwdash.tui.glyphs import Glyphs
from hwdash.tui.line import Line, Span, fit, sized
from hwdash.tui.row import Row, SortOrder

CellFunction = Callable[[Row, int, Glyphs], Line]


@dataclass(frozen=True, slots=True)
class Column:
    """One column as laid out: *title* is set right where the cells are numbers."""

    name: str
    title: str
    width: int
    right: bool
    cells: CellFunction


@dataclass(frozen=True, slots=True)
class _Kind:
    titles: tuple[str, ...]
    right: bool
    cells: CellFunction
    sort: SortOrder | None = None


_KINDS: Mapping[str, _Kind] = MappingProxyType(
    {
        "rank": _Kind(("#",), True, cell.rank, SortOrder.RANK),
        "id": _Kind(("ID",), False, cell.identity),
        "name": _Kind(("NAME",), False, cell.name, SortOrder.NAME),
        "util": _Kind(("UTILISATION", "UTIL"), True, cell.utilisation, SortOrder.UTILISATION),
        "memory": _Kind(("MEMORY GiB", "MEM GiB"), True, cell.memory, SortOrder.MEMORY),
        "bandwidth": _Kind(("BW",), True, cell.bandwidth),
        "tensor": _Kind(("TC",), True, cell.tensor),
        "temp": _Kind(("°C",), True, cell.temperature, SortOrder.TEMPERATURE),
        "left": _Kind(("LEFT",), True, cell.margin),
        "power": _Kind(("POWER W",), True, cell.power),
        "clock": _Kind(("CLOCK MHz", "CLK"), True, cell.clock),
        "state": _Kind(("STATE",), False, cell.state),
        "speed": _Kind(("TOK/S",), True, cell.speed),
        "ttft": _Kind(("TTFT",), True, cell.first_token),
        "why": _Kind(("WHY THIS RANK", "WHY"), False, cell.why),
    }
)

_GROWTH = (
    ("rank", 3),
    ("id", 4),
    ("state", 6),
    ("util", 4),
    ("temp", 3),
    ("state", 19),
    ("memory", 9),
    ("power", 0),
    ("left", 4),
    ("clock", 4),
    ("util", 10),
    ("speed", 5),
    ("ttft", 7),
    ("name", 14),
    ("clock", 9),
    ("memory", 16),
    ("util", 15),
    ("name", 24),
    ("state", 26),
    ("memory", 20),
    ("why", 16),
    ("bandwidth", 4),
    ("tensor", 4),
    ("gap", 2),
    ("name", 30),
    ("why", 44),
    ("util", 20),
    ("state", 34),
)
"""What the table grows by as it gets wider, the most wanted first. A step that does not fit ends the growth."""

_OPTIONAL = {"bandwidth": "memory_bandwidth_utilization", "tensor": "tensor_utilization"}
"""Columns that are there only where a device has the metric."""

_WHY_WIDTH = 70
"""Cells left over go to the reasons, up to this; a wider table is not easier to read."""


def plan(width: int, rows: Sequence[Row]) -> tuple[tuple[Column, ...], int]:
    """The columns for *width* cells, left to right, and the blanks between two of them."""
    widths: dict[str, int] = {}
    gap = 1
    for name, wanted in _GROWTH:
        if name == "gap":
            if _total(widths, wanted) > width:
                break
            gap = wanted
            continue
        if name in _OPTIONAL and all(_OPTIONAL[name] not in row.status.readings for row in rows):
            continue
        if name == "id":
            lengths = (len(row.status.device.id) + bool(row.parent) for row in rows)
            wanted = min(8 + any(row.parent for row in rows), max(lengths, default=wanted))
        elif name == "power":
            wanted = 9 if any((row.status.device.limits.power_w or 0) >= 1000 for row in rows) else 7
        grown = widths | {name: wanted}
        if _total(grown, gap) > width:
            break
        widths = grown
    if "why" in widths:
        widths["why"] = min(_WHY_WIDTH, widths["why"] + width - _total(widths, gap))
    columns = [
        Column(name, _title(kind, widths[name]), widths[name], kind.right, kind.cells)
        for name, kind in _KINDS.items()
        if name in widths
    ]
    return tuple(columns), gap


def _total(widths: Mapping[str, int], gap: int) -> int:
    return sum(widths.values()) + gap * (len(widths) - 1)


def _title(kind: _Kind, width: int) -> str:
    return next((title for title in kind.titles if len(title) <= width), kind.titles[-1])


def heading(columns: Sequence[Column], gap: int, order: SortOrder, glyphs: Glyphs) -> Line:
    """The line above the rows; the column that the rows are sorted by carries a mark."""
    spans: list[Span] = []
    for column in columns:
        if spans:
            spans.append(Span(" " * gap, "label"))
        is_sorted = _KINDS[column.name].sort is order
        title = column.title
        if is_sorted and len(title) < column.width:
            title += glyphs.up if order in (SortOrder.RANK, SortOrder.NAME) else glyphs.down
        title = fit(title, column.width, right=column.right, ellipsis=glyphs.ellipsis)
        spans.append(Span(title, "strong" if is_sorted else "label"))
    return tuple(spans)


def row_line(row: Row, columns: Sequence[Column], gap: int, glyphs: Glyphs, *, old: bool) -> Line:
    """One row. With *old*, and for a device without fresh samples, all but the state is dimmed."""
    dim = old or row.status.health.state.value in ("stale", "lost")
    spans: list[Span] = []
    for column in columns:
        if spans:
            spans.append(Span(" " * gap))
        spans += [
            Span(text, "faint" if dim and column.name not in ("state", "id", "rank") and style != "bar-back" else style)
            for text, style in sized(column.cells(row, column.width, glyphs), column.width, glyphs.ellipsis)
        ]
    return tuple(spans)
