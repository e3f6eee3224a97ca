"""The ranking under requirements, through the service and its route."""

from __future__ import annotations

import json

import pytest

from hwdash.core.device import DeviceKind
from hwdash.core.errors import UnknownModel, UsageError
from hwdash.core.model import ModelShape
from hwdash.core.requirement import Policy, Requirements
from hwdash.engine.fake import FakeEngine
from hwdash.sources.fake import FakeSource, fake_gpu
from tests.daemon.fake_models import MODEL
from tests.daemon.living import living

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
        assert data["requirements"] == {"min_memory": 40 * 2**30, "policy": "latency", "prefer_low_power": True}
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
