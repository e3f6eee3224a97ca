"""Every throttle reason has a class and words, also when it comes by its name from elsewhere."""

from __future__ import annotations

import pytest

from hwdash.core.throttle import ThrottleReason, reason_words


@pytest.mark.parametrize("reason", ThrottleReason)
def test_every_reason_has_a_class_and_words(reason: ThrottleReason) -> None:
    assert reason.category
    assert reason_words(reason.value) == reason.words


def test_a_name_from_elsewhere_is_a_safe_line() -> None:
    assert reason_words("novel\x1b[2J\nreason") == "novel\N{REPLACEMENT CHARACTER}[2J reason"
