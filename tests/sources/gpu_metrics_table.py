"""Tables of ``gpu_metrics`` made by hand: every field unset but those that a test names."""

from __future__ import annotations

from collections.abc import Sequence

from hwdash.sources.gpu_metrics_layout import LAYOUTS


def table(version: tuple[int, int], **values: int | Sequence[int]) -> bytes:
    """The bytes of a table of *version*; *values* by the names of its layout, raw as the driver writes them."""
    layout = LAYOUTS[version]
    content = bytearray(b"\xff" * layout.size)
    content[:4] = layout.size.to_bytes(2, "little") + bytes(version)
    for name, value in values.items():
        field = layout.fields[name]
        for index, number in enumerate([value] if isinstance(value, int) else value):
            start = field.offset + index * field.width
            content[start : start + field.width] = number.to_bytes(field.width, "little")
    return bytes(content)
