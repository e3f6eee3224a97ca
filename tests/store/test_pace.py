"""What a daemon learns from the answers of earlier days."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwdash.core.config import StoreConfig
from hwdash.core.inference import Energy, FinishReason, Route, Timing
from hwdash.store.pace import MOST, StoredAnswer
from hwdash.store.store import Store
from tests.store.material import FAST, gpu, record


async def test_the_newest_answers_of_each_device_and_model_come_oldest_first(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "hwdash.db", StoreConfig(), pace=FAST)
    for number in range(MOST + 5):
        timing = Timing(queue_s=0.001, ttft_s=number + 1.0)
        await store.add_record(record(number, timing=timing, route=Route("auto")))
    await store.add_record(record(1, index=1, model="other", route=Route("auto")))
    answers = await store.recent_answers()
    first = [answer for answer in answers if answer.device_key == gpu(0).key]
    assert [answer.ttft_s for answer in first] == pytest.approx([number + 1 - 0.001 for number in range(5, MOST + 5)])
    assert {answer.model for answer in answers if answer.device_key == gpu(1).key} == {"other"}
    await store.close()


async def test_waiting_and_cold_start_are_not_the_device_s_pace(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "hwdash.db", StoreConfig(), pace=FAST)
    straight = Route("auto")
    timing = Timing(queue_s=2.0, cold_start_s=3.0, ttft_s=5.5, itl_p50_s=0.01, total_s=7.0)
    await store.add_record(record(1, timing=timing, route=straight, energy=Energy(10.0, "device", 0.5)))
    await store.add_record(record(2, finish=FinishReason.ERROR, route=straight))
    await store.add_record(record(3, finish=FinishReason.CANCELLED, route=straight))
    await store.add_record(record(4, timing=timing, energy=None, route=Route("auto", (), "gpu9")))
    await store.add_record(record(5, timing=Timing(), energy=None, route=straight))
    assert await store.recent_answers() == (
        StoredAnswer(gpu(0).key, "tiny", 0.5, 0.01, 3.0, 0.5),
        # What another device had cost before is in the time to first token, and in nothing else.
        StoredAnswer(gpu(0).key, "tiny", None, 0.01, 3.0),
        StoredAnswer(gpu(0).key, "tiny"),
    )
    await store.close()


async def test_the_speed_of_the_whole_answer_counts_and_not_the_gaps_between_its_pieces(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "hwdash.db", StoreConfig(), pace=FAST)
    for number, timing in enumerate(
        (
            Timing(itl_p50_s=0.00002, tokens_per_s=100.0),
            Timing(itl_p50_s=0.02),
            Timing(itl_p50_s=0.02, tokens_per_s=0.0),
        )
    ):
        await store.add_record(record(number, timing=timing, route=Route("auto")))
    answers = await store.recent_answers()
    assert [answer.itl_s for answer in answers] == pytest.approx([0.01, 0.02, 0.02])
    await store.close()
