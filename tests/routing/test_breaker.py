"""A breaker opens after failures in a row, tries again later and later, and closes at the first success."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.status import BreakerState
from hwdash.routing.breaker import CLOSED, FAILURES, FIRST_PAUSE_S, LONGEST_PAUSE_S, Breaker


def broken(at_s: float = 100.0) -> Breaker:
    breaker = CLOSED
    for _ in range(FAILURES):
        breaker = breaker.failed(at_s, "out of memory")
    return breaker


def test_three_failures_in_a_row_open_it_and_a_success_between_does_not() -> None:
    twice = CLOSED.failed(1.0, "x").failed(2.0, "x")
    assert twice.state(2.0) is BreakerState.CLOSED
    assert twice.words(2.0) == ""
    assert twice.succeeded().failed(3.0, "x").admits(3.0)
    assert twice.failed(3.0, "x").state(3.0) is BreakerState.OPEN


def test_failures_of_one_incident_count_once() -> None:
    """Four that ran when the worker died all fail; only who began after the last counted failure says more."""
    breaker = CLOSED.failed(10.0, "reset", began_s=1.0)
    for began_s in (2.0, 3.0, 9.9):
        breaker = breaker.failed(10.1, "reset", began_s)
    assert breaker.failures == 1
    breaker = breaker.failed(11.0, "reset", began_s=10.0).failed(13.0, "reset", began_s=12.0)
    assert breaker.state(13.0) is BreakerState.OPEN
    assert breaker.failed(14.0, "reset", began_s=12.5) == breaker


def test_the_words_count_down() -> None:
    breaker = broken(100.0)
    assert breaker.words(102.0) == "3 failures in a row, last: out of memory; next try in 8 s"
    assert breaker.words(102.0, "models") == "3 models in a row, last: out of memory; next try in 8 s"
    assert breaker.words(110.0) == "3 failures in a row, last: out of memory; the next request tries it"
    assert (
        breaker.tried(110.0, 7).words(110.0) == "3 failures in a row, last: out of memory; one request is trying it now"
    )
    assert [breaker.again_s(at_s) for at_s in (102.0, 110.0, 111.0)] == [8.0, 0.0, 0.0]
    assert CLOSED.again_s(0.0) == 0.0


def test_half_open_it_lets_one_request_through() -> None:
    breaker = broken(100.0)
    assert not breaker.admits(109.9)
    assert breaker.tried(109.9, 7) == breaker
    assert breaker.state(110.0) is BreakerState.HALF_OPEN
    assert breaker.admits(110.0)
    trying = breaker.tried(110.0, 7)
    assert not trying.admits(110.0)
    assert trying.tried(110.0, 8).trying == 7
    assert trying.succeeded() == CLOSED
    assert CLOSED.tried(0.0, 7) == CLOSED


def test_only_the_end_of_the_trial_lets_the_next_one_through() -> None:
    trying = broken(100.0).tried(110.0, 7)
    assert not trying.abandoned(8).admits(110.0)
    assert trying.abandoned(7).admits(110.0)


def test_each_failed_try_doubles_the_pause_up_to_five_minutes() -> None:
    breaker, at_s, pauses = broken(0.0), 0.0, []
    for _ in range(8):
        assert breaker.opens_s is not None
        pauses.append(breaker.opens_s - at_s)
        at_s = breaker.opens_s
        breaker = breaker.tried(at_s, 1).failed(at_s, "out of memory")
    assert pauses == [10, 20, 40, 80, 160, 300, 300, 300]


def test_failures_that_come_in_while_it_is_open_do_not_put_the_try_off() -> None:
    late = broken(100.0).failed(105.0, "worker died")
    assert late.opens_s == 110.0
    assert late.words(105.0) == "4 failures in a row, last: worker died; next try in 5 s"


@given(st.lists(st.tuples(st.sampled_from(["fail", "succeed", "try", "abandon"]), st.floats(0, 400)), max_size=60))
def test_it_is_closed_exactly_while_fewer_than_three_failed_since_the_last_success(
    steps: list[tuple[str, float]],
) -> None:
    breaker, at_s, failures = CLOSED, 0.0, 0
    for step, wait_s in steps:
        at_s += wait_s
        if step == "fail":
            failures += 1
            breaker = breaker.failed(at_s, "x")
        elif step == "succeed":
            failures = 0
            breaker = breaker.succeeded()
        else:
            breaker = breaker.tried(at_s, 1) if step == "try" else breaker.abandoned(1)
        state = breaker.state(at_s)
        assert (state is BreakerState.CLOSED) == (failures < FAILURES)
        assert breaker.admits(at_s) == (
            state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and not breaker.trying)
        )
        assert bool(breaker.words(at_s)) == (state is not BreakerState.CLOSED)
        if breaker.opens_s is not None:
            assert FIRST_PAUSE_S <= breaker.pause_s <= LONGEST_PAUSE_S
            assert breaker.opens_s <= at_s + LONGEST_PAUSE_S
            assert breaker.state(breaker.opens_s) is BreakerState.HALF_OPEN
