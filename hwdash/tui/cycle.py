"""Going through choices with one key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

_Choice = TypeVar("_Choice")


def after(choices: Sequence[_Choice], current: _Choice) -> _Choice:
    """The choice that follows *current*, around the end; the first one where *current* is none of them."""
    return choices[(choices.index(current) + 1) % len(choices)] if current in choices else choices[0]
