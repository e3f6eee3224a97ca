"""The ranking under requirements, through the service and its route."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hwdash.core.config import Config, EngineConfig
from hwdash.core.device import DeviceKind
from hwdash.core.errors import UnknownModel, UsageError
from hwdash.core.model import ModelShape
from hwdash.core.ranking import Ranking
from hwdash.core.requirement import Policy, Requirements
from hwdash.daemon.recall import Recall
from hwdash.engine.fake import FakeEngine
from hwdash.sources.fake import FakeSource, fake_gpu, fake_readings
from tests.daemon.fake_models import MODEL
from tests.daemon.living import Living, living, until

HUGE = ModelShape(parameters=200 * 10**9, layers=100, cache_values_per_token=200_000)


def two() -> FakeSource:
    return FakeSource([fake_gpu(0), fake_gpu(1)])


async def test_the_answer_has_the_contract_s_form() -> None:
    async with living(two()) as daemon:
        await daemon.client.snapshot()
        status, _, body = await daemon.ask("GET", "/api/v1/rank?min_memory=40GiB&policy=latency&prefer_low_power=true")
        data = json.loads(body)
        assert status == 200
        assert {"policy", "requirements", "ranked", "excluded"} <= set(data)
        assert data["policy"] == "latency"
        asked = {"min_memory": 40 * 2**30, "policy": "latency", "prefer_low_power": True}
        assert data["requirements"] == {**asked, "model": daemon.service.default_model}
        assert [item["device"] for item in data["ranked"]] == ["gpu0", "gpu1"]
        assert {"device", "score", "parts", "why"} <= set(data["ranked"][0])
        assert data["excluded"] == []


async def test_every_requirement_travels_from_the_client() -> None:
    everything = Requirements(
        min_memory_bytes=2**30,
        features=("bf16", "cc8.9"),
        max_power_w=900.0,
        max_latency_s=30.0,
        kinds=(DeviceKind.GPU, DeviceKind.CPU),
        prefer_low_power=True,
        policy=Policy.EFFICIENCY,
        model=MODEL,
        context_tokens=512,
    )
    async with living(two()) as daemon:
        ranking = await daemon.client.rank(everything)
        assert ranking.policy == "efficiency"
        assert ranking.requirements == {
            "min_memory": 2**30,
            "require": ["bf16", "cc8.9"],
            "max_power": 900.0,
            "max_latency": 30.0,
            "kind": ["gpu", "cpu"],
            "prefer_low_power": True,
            "policy": "efficiency",
            "model": MODEL,
            "context": 512,
        }
        assert len(ranking.ranked) + len(ranking.excluded) == 2


async def test_requirements_that_contradict_each_other_leave_nobody() -> None:
    async with living(two()) as daemon:
        status, _, body = await daemon.ask("GET", "/api/v1/rank?max_power=1&kind=npu&min_memory=900TiB")
        data = json.loads(body)
        assert status == 200
        assert data["ranked"] == []
        assert [item["device"] for item in data["excluded"]] == ["gpu0", "gpu1"]
        assert all(len(item["why"]) >= 2 for item in data["excluded"])


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("min_memory=lots", "min_memory"),
        ("min_memory=", "min_memory"),
        ("min_memory=-1", "min_memory"),
        ("require=bf17", "require"),
        ("max_power=watt", "max_power"),
        ("max_power=0", "max_power"),
        ("max_power=nan", "max_power"),
        ("max_power=1e99", "max_power"),
        ("max_latency=-3", "max_latency"),
        ("max_latency=inf", "max_latency"),
        ("kind=toaster", "kind"),
        ("prefer_low_power=maybe", "prefer_low_power"),
        ("policy=fast", "policy"),
        ("context=0", "context"),
        ("context=1.5", "context"),
        ("model=", "model"),
        ("model=%00", "model"),
        ("min_memroy=1", "min_memroy"),
        ("policy=latency&policy=balanced", "policy"),
    ],
)
async def test_a_bad_value_is_named(query: str, field: str) -> None:
    async with living() as daemon:
        status, _, body = await daemon.ask("GET", f"/api/v1/rank?{query}")
        error = json.loads(body)["error"]
        assert status == 400
        assert error["param"] == field
        assert field in error["message"]


async def test_a_model_counts_with_its_memory_and_must_be_known() -> None:
    engine = FakeEngine()
    engine.shapes["huge"] = HUGE
    async with living(two(), engine) as daemon:
        ranking = await daemon.client.rank(Requirements(model="huge"))
        assert ranking.ranked == ()
        assert all("GiB" in item.why[0] for item in ranking.excluded)
        assert len((await daemon.client.rank(Requirements(model=MODEL))).ranked) == 2
        assert len((await daemon.client.rank(Requirements(model="smollm2-135m-instruct"))).ranked) == 2
        with pytest.raises(UnknownModel, match="model 'nope' is not on this machine"):
            await daemon.client.rank(Requirements(model="nope"))
        with pytest.raises(UsageError, match="require"):
            await daemon.client.rank(Requirements(features=("bf17",)))


async def test_a_model_whose_size_is_not_known_is_ranked_as_it_is_answered() -> None:
    async with living(two()) as daemon:
        daemon.models.names.append("/models/llama-gptq")
        ranking = await daemon.client.rank(Requirements(model="/models/llama-gptq"))
        assert len(ranking.ranked) == 2
        with pytest.raises(UnknownModel):
            await daemon.client.rank(Requirements(model="/models/other"))


async def test_the_ranking_says_which_model_counted() -> None:
    async with living(two(), config=Config(engine=EngineConfig(model=MODEL))) as daemon:
        assert (await daemon.client.rank()).requirements == {"model": MODEL}
        daemon.models.names.clear()
        assert (await daemon.client.rank()).requirements == {}


async def test_the_published_ranking_says_which_model_counted() -> None:
    engine = FakeEngine()
    engine.shapes[MODEL] = ModelShape(parameters=10**6, layers=2, cache_values_per_token=64)
    async with living(two(), engine, config=Config(engine=EngineConfig(model=MODEL))) as daemon:
        await until(lambda: published(daemon).requirements == {"model": MODEL})


def published(daemon: Living) -> Ranking:
    ranking = daemon.service.snapshots.latest and daemon.service.snapshots.latest.ranking
    return ranking or Ranking("", {}, (), ())


def busier(first: float, second: float) -> FakeSource:
    readings = {fake_gpu(0).key: fake_readings(utilization=first), fake_gpu(1).key: fake_readings(utilization=second)}
    return FakeSource([fake_gpu(0), fake_gpu(1)], readings)


@pytest.mark.parametrize("policy", list(Policy))
async def test_the_order_keeps_to_what_was_told_last(policy: Policy) -> None:
    source, asked = busier(0.10, 0.12), Requirements(policy=policy)
    async with living(source, interval_s=0.05) as daemon:
        await daemon.service.snapshot()
        before = await daemon.service.rank(asked)
        assert [item.device for item in before.ranked] == ["gpu0", "gpu1"]
        source.readings[fake_gpu(0).key] = fake_readings(utilization=0.14)
        await until(lambda: busy_of(daemon) == 0.14)
        after = await daemon.service.rank(asked)
        assert after.ranked[0].score < after.ranked[1].score  # by less than the lead that it takes
        assert [item.device for item in after.ranked] == ["gpu0", "gpu1"]
        fresh = await daemon.service.rank(replace(asked, min_memory_bytes=1))
        assert [item.device for item in fresh.ranked] == ["gpu1", "gpu0"]


def busy_of(daemon: Living) -> float | None:
    latest = daemon.service.snapshots.latest
    return None if latest is None else latest.devices[0].number("utilization")


def test_what_was_told_is_forgotten_in_time_and_number() -> None:
    recall, ranking = Recall(), Ranking("balanced", {}, (), ())
    for number in range(100):
        recall.keep(Requirements(context_tokens=number + 1), ranking, float(number))
    assert recall.last(Requirements(context_tokens=100), 99.0) is ranking
    assert recall.last(Requirements(context_tokens=100), 99.5) is None
    assert recall.last(Requirements(context_tokens=1), 0.0) is None
    assert recall.last(Requirements(), 0.0) is None
