"""GET /metrics of a running daemon."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from hwdash.core.errors import EngineError
from hwdash.core.inference import FinishReason
from hwdash.daemon.metric_format import OPENMETRICS, OPENMETRICS_ESCAPED, PLAIN, PLAIN_1, accepts_gzip, choose_format
from hwdash.engine.fake import FakeEngine
from hwdash.sources.fake import FakeSource, fake_gpu
from tests.daemon.fake_models import MODEL
from tests.daemon.living import KEY, Living, ask_for, living, until
from tests.daemon.metric_page import Series, read_openmetrics, read_plain, series

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_2 = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/html,application/xhtml+xml,*/*;q=0.8", PLAIN),
        ("text/plain", PLAIN),
        ("application/json", PLAIN),
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS_ESCAPED),
        ("application/openmetrics-text", OPENMETRICS),
        ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", OPENMETRICS),
        ("application/openmetrics-text;q=0.1, text/plain;version=0.0.4", PLAIN),
        ("text/plain;version=1.0.0;escaping=values", PLAIN_1),
        ("application/openmetrics-text;version=nonsense", PLAIN),
        ("application/openmetrics-text;version=9.0.0", PLAIN),
        ("application/openmetrics-text;q=2, ;;=;, ,", PLAIN),
        ("application/openmetrics-text;q=0", PLAIN),
        ("application/openmetrics-text;q=x", PLAIN),
    ],
)
def test_the_format_is_the_one_that_is_preferred(accept: str, wanted: object) -> None:
    assert choose_format(accept) is wanted


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("", False),
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("br", False),
        ("gzip;q=", False),
    ],
)
def test_gzip_only_where_it_is_asked_for(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


async def scrape(daemon: Living) -> Series:
    status, head, body = await daemon.ask("GET", "/metrics")
    assert status == 200
    assert f"content-type: {PLAIN.content_type}".lower() in head
    return series(read_plain(body.decode()))


def of(found: Series, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(sorted(labels.items()))))


async def test_both_formats_and_gzip_have_their_headers() -> None:
    async with living() as daemon:
        await daemon.client.snapshot()
        accept = f"Accept: {PROMETHEUS_3}\r\nAccept-Encoding: gzip\r\n"
        status, head, body = await daemon.ask("GET", "/metrics", headers=accept)
        assert status == 200
        assert "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores" in head
        assert "content-encoding: gzip" in head
        assert "vary: accept, accept-encoding" in head
        text = gzip.decompress(body).decode()
        assert text.endswith("# EOF\n")
        assert of(series(read_openmetrics(text)), "hwdash_device_up", device=KEY) == 1
        assert of(await scrape(daemon), "hwdash_device_power_watts", device=KEY) == 350


async def test_before_the_first_cycle_there_is_no_device() -> None:
    source = FakeSource([fake_gpu(0)])
    source.hanging.add(KEY)
    async with living(source) as daemon:
        assert {name for name, _ in await scrape(daemon)} == {"hwdash_build_info"}


async def test_gauges_are_of_the_newest_snapshot_and_a_lost_device_has_none() -> None:
    source = FakeSource([fake_gpu(0)], {KEY: lambda count: {"power_w": float(count)}})
    async with living(source, interval_s=0.02) as daemon:
        await daemon.client.snapshot()
        first = of(await scrape(daemon), "hwdash_device_power_watts", device=KEY)
        await until(lambda: source.reads[KEY] > (first or 0) + 2)
        later = of(await scrape(daemon), "hwdash_device_power_watts", device=KEY)
        assert first is not None
        assert later is not None
        assert later > first
        source.lost.add(KEY)
        await until(
            lambda: (
                (latest := daemon.service.snapshots.latest) is not None
                and latest.devices[0].health.state.value == "lost"
            )
        )
        found = await scrape(daemon)
        assert of(found, "hwdash_device_up", device=KEY) == 0
        assert of(found, "hwdash_device_health", device=KEY, state="lost") == 1
        assert not {name for name, labels in found if ("device", KEY) in labels} & {
            "hwdash_device_power_watts",
            "hwdash_device_power_limit_watts",
            "hwdash_device_score",
        }


async def test_answers_are_counted_with_the_gaps_between_their_tokens() -> None:
    async with living(engine=FakeEngine(delay_s=0.002)) as daemon:
        async for _ in daemon.client.prompt(ask_for("one two three four")):
            pass
        found = await scrape(daemon)
        here = {"device": KEY, "model": MODEL}
        assert of(found, "hwdash_inference_requests_total", status="stop", **here) == 1
        assert of(found, "hwdash_inference_tokens_total", direction="completion", **here) == 4
        assert of(found, "hwdash_inference_ttft_seconds_count", **here) == 1
        assert of(found, "hwdash_inference_itl_seconds_count", **here) == 3
        assert of(found, "hwdash_inference_itl_seconds_bucket", le="0.001", **here) == 0
        assert of(found, "hwdash_inference_duration_seconds_count", **here) == 1


async def test_a_request_that_failed_is_counted_where_it_failed() -> None:
    async with living(engine=FakeEngine(failure=EngineError("gpu0: out of memory"))) as daemon:
        with pytest.raises(EngineError):
            async for _ in daemon.client.prompt(ask_for()):
                pass
        found = await scrape(daemon)
        labels = {"device": KEY, "model": MODEL, "status": FinishReason.ERROR.value}
        assert of(found, "hwdash_inference_requests_total", **labels) == 1


async def test_a_request_that_another_device_answered_is_a_fallback_of_the_first() -> None:
    engine = FakeEngine()
    async with living(FakeSource([fake_gpu(0), fake_gpu(1)]), engine) as daemon:
        best = (await daemon.service.rank()).ranked[0].device
        first = (await daemon.service.snapshot()).find(best).device.key
        engine.failures[first] = EngineError(f"{best}: the worker died")
        async for _ in daemon.client.prompt(ask_for()):
            pass
        found = await scrape(daemon)
        assert of(found, "hwdash_inference_requests_total", device=first, model=MODEL, status="error") == 1
        assert of(found, "hwdash_inference_fallbacks_total", device=first, model=MODEL) == 1


async def test_many_scrapers_at_once_each_get_a_page() -> None:
    async with living() as daemon:
        await daemon.client.snapshot()
        pages = await asyncio.gather(*(scrape(daemon) for _ in range(8)))
        assert all(of(page, "hwdash_device_up", device=KEY) == 1 for page in pages)


async def test_the_default_model_has_a_score_under_every_policy() -> None:
    async with living() as daemon:
        await daemon.client.snapshot()
        found = await scrape(daemon)
        for policy in ("balanced", "latency", "throughput", "efficiency"):
            assert of(found, "hwdash_device_score", device=KEY, policy=policy) is not None
