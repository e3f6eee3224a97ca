"""The end of an iterator, now."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any


async def close_iterator(items: AsyncIterator[Any]) -> None:
    """Close *items* at once where it is a generator, rather than when it is collected."""
    if (close := getattr(items, "aclose", None)) is not None:
        await close()
