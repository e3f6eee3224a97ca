"""Times as the store keeps them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def to_ms(moment: datetime) -> int:
    """An aware time as whole milliseconds since 1970 in UTC."""
    return (moment - _EPOCH) // _MILLISECOND


def from_ms(stamp: int) -> datetime:
    """The time in UTC that `to_ms` turned into *stamp*."""
    return _EPOCH + stamp * _MILLISECOND
