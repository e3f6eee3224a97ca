"""A bench beside earlier ones: what is compared with what, and when that is worth a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.bench import BenchComparison, BenchReport, DecodeFigure, DtypeFigures, PrefillFigure
from hwdash.core.measurement import LoadedModel
from hwdash.daemon.bench_compare import MOST_RUNS, compare

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
FACTORS = st.floats(0.2, 5.0)


def figures(
    slower: float = 1.0, dtype: str = "bf16", decoder: str = "graph", joules: float | None = 0.2
) -> DtypeFigures:
    return DtypeFigures(
        dtype,
        LoadedModel(dtype, 1000, 2000, 2048, decoder, load_s=2.0 * slower),
        (PrefillFigure(32, 0.02 * slower, 1600.0 / slower),),
        (DecodeFigure(1, 0.005 * slower, 0.006 * slower, 200.0 / slower, None, joules),),
    )


def report(
    age: timedelta, *dtypes: DtypeFigures, driver: str = "580.1", model: str = "m", key: str = "k"
) -> BenchReport:
    return BenchReport(
        f"{age}", NOW - age, 10.0, "gpu0", key, "GPU", model, "device", 1e12, (("driver", driver),), dtypes
    )


def days(count: float) -> timedelta:
    return timedelta(days=count)


def by_name(found: Sequence[BenchComparison]) -> dict[str, BenchComparison]:
    return {item.figure: item for item in found}


@given(FACTORS, st.lists(FACTORS, min_size=1, max_size=15))
def test_ratio_median_and_words(now: float, before: list[float]) -> None:
    earlier = [report(days(1 + number), figures(slower)) for number, slower in enumerate(before)]
    new = report(days(0), figures(now))
    found = by_name(compare(new, earlier))
    counted = sorted(before[:MOST_RUNS])
    middle = (counted[(len(counted) - 1) // 2] + counted[len(counted) // 2]) / 2
    itl = found["ITL p50 at batch 1"]
    assert itl.ratio == pytest.approx(now / middle)
    assert itl.runs == len(counted)
    assert itl.since == NOW - days(min(len(before), MOST_RUNS))
    assert found["load"].ratio == pytest.approx(itl.ratio)
    spread = max(abs(slower / middle - 1.0) for slower in counted)
    least = 0.05 if len(counted) >= 3 else 0.10
    off = abs(now / middle - 1.0) - max(least, spread)
    if abs(off) > 1e-6:
        assert bool(itl.words) is (off > 0)
        assert ("slower" in itl.words) is (off > 0 and now > middle)
    # The order in which they come does not matter.
    assert compare(new, earlier[::-1]) == compare(new, earlier)


@given(st.floats(0.96, 1.04))
def test_a_small_difference_is_no_news(now: float) -> None:
    earlier = [report(days(number), figures()) for number in (1, 2, 3)]
    assert not any(item.words for item in compare(report(days(0), figures(now)), earlier))


def test_the_same_news_is_told_once() -> None:
    earlier = [report(days(number), figures()) for number in (6, 5, 4)]
    found = compare(report(days(0), figures(1.12)), earlier)
    assert [item.words for item in found if item.words] == [
        "bf16, load: 12% slower than its baseline of the last week (3 runs): 2.24 s, was 2.00 s",
        "bf16, TTFT of 32 tokens: 12% slower than its baseline of the last week (3 runs): 22.4 ms, was 20.0 ms",
        "bf16, ITL p50 at batch 1: 12% slower than its baseline of the last week (3 runs): 5.60 ms, was 5.00 ms",
    ]
    assert by_name(found)["tokens/s at batch 1"].ratio == pytest.approx(1 / 1.12)


def test_a_rate_that_falls_alone_is_told() -> None:
    slow = replace(figures(), decode=(DecodeFigure(1, 0.005, 0.09, 150.0, None, 0.26),))
    found = by_name(compare(report(days(0), slow), [report(days(20), figures())]))
    assert found["tokens/s at batch 1"].words == (
        "bf16, tokens/s at batch 1: 25% slower than its baseline of the last month (1 run): 150 tok/s, was 200 tok/s"
    )
    assert found["energy at batch 1"].words == (
        "bf16, energy at batch 1: 30% more than its baseline of the last month (1 run): 0.26 J/token, was 0.20 J/token"
    )


def test_what_is_not_compared() -> None:
    new = report(days(0), figures())
    others = [
        report(days(31), figures(2.0)),
        report(days(-1), figures(2.0)),
        report(days(1), figures(2.0), key="other"),
        report(days(1), figures(2.0), model="other"),
        report(days(1), figures(2.0, dtype="fp32")),
        report(days(1), figures(2.0, decoder="eager")),
        report(days(1), DtypeFigures("bf16", problem="out of memory")),
        new,
    ]
    assert compare(new, others) == ()
    assert compare(report(days(0), DtypeFigures("bf16", problem="no")), [report(days(1), figures())]) == ()
    assert "energy at batch 1" not in by_name(compare(new, [report(days(1), figures(joules=None))]))


def test_only_answers_of_equal_lengths_are_compared() -> None:
    def lengths(slower: float, new_tokens: int | None, prompt_tokens: int | None) -> DtypeFigures:
        (one,) = figures(slower).decode
        return replace(figures(slower), decode=(replace(one, new_tokens=new_tokens, prompt_tokens=prompt_tokens),))

    others = [report(days(3), lengths(3.0, 128, 64)), report(days(2), lengths(3.0, 512, 32))]
    newer = [report(timedelta(hours=1 + number), lengths(3.0, 9, 64)) for number in range(MOST_RUNS)]
    new = report(days(0), lengths(1.0, 512, 64))
    unlike = by_name(compare(new, [*others, report(days(4), lengths(3.0, None, None)), *newer]))
    assert set(unlike) == {"load", "TTFT of 32 tokens"}
    found = by_name(compare(new, [*others, report(days(5), lengths(2.0, 512, 64)), *newer]))
    assert {name: found[name].ratio for name in ("ITL p50 at batch 1", "energy at batch 1")} == {
        "ITL p50 at batch 1": pytest.approx(0.5),
        "energy at batch 1": pytest.approx(1.0),
    }


def test_other_drivers_are_named() -> None:
    old = [report(days(number), figures(), driver="570.9") for number in (3, 2)]
    new = report(days(0), figures(1.5))
    assert "(2 runs, with driver 570.9)" in compare(new, old)[0].words
    assert "(3 runs, some with driver 570.9)" in compare(new, [*old, report(days(1), figures())])[0].words
