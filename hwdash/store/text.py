"""Text as SQLite can hold it."""

from __future__ import annotations


def encodable(text: str) -> str:
    """*text* without lone surrogates, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()


def encodable_or_none(text: str | None) -> str | None:
    """The same; None stays None."""
    return None if text is None else encodable(text)
