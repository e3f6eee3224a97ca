"""How much there may be in a JSON text before anyone looks at what it says: checking costs by the value, not by the byte."""

from __future__ import annotations

from hwdash.core.errors import UsageError

MAX_VALUES = 65_536
"""Values of one body, those inside of others included: ten thousand turns of a chat, each with its text in a list."""
_QUOTES = 4 * MAX_VALUES


def check_bound(data: bytes) -> None:
    """Raise `UsageError` for a JSON text of more than `MAX_VALUES` values, in a few passes over its bytes.

    What is no JSON may pass: it is refused where it is read.
    """
    if _marks(data) <= MAX_VALUES:
        return
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Each value has at most two texts, its key and itself. Between two quotes, every other piece is outside of a text.
    if plain.count(b'"') > _QUOTES or _marks(b"".join(plain.split(b'"')[::2])) > MAX_VALUES:
        raise UsageError(f"body: there are more than {MAX_VALUES} values in it; send fewer", param="body")


def _marks(data: bytes) -> int:
    """How many values *data* has at most, once it has no texts: every value comes after one of these, or is the first."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")
