"""What commands print: aligned tables, one JSON document, CSV."""

from __future__ import annotations

import contextlib
import csv
import io
import sys
from collections.abc import Iterable, Iterator, Sequence

from hwdash.core.errors import HwdashError
from hwdash.core.wire import dumps, error_to_wire


def print_json(value: object) -> None:
    """*value* as one JSON document on stdout, in UTF-8 whatever the locale says."""
    sys.stdout.flush()
    sys.stdout.buffer.write(dumps(value) + b"\n")


@contextlib.contextmanager
def failure_told(as_json: bool) -> Iterator[None]:
    """With *as_json* an error that is raised is printed as the command's document; it goes on to stderr and exit code."""
    try:
        yield
    except HwdashError as error:
        if as_json:
            print_json(error_to_wire(error))
        raise


def table_text(header: Sequence[str], rows: Iterable[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """A table with two spaces between columns; the columns in *right* are flush right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV with a header line. None is an empty field; a text that a spreadsheet would run as a formula is quoted with '."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(["" if cell is None else _harmless(cell) for cell in row])
    return out.getvalue()


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t") else cell
