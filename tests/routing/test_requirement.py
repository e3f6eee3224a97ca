"""What cannot be met is said with both numbers; what is not known is not met."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from hwdash.core.device import DeviceKind, MemoryPool, Runtime
from hwdash.core.health import HealthState
from hwdash.core.precision import ITEM_BYTES
from hwdash.core.reading import Absent
from hwdash.core.requirement import NO_REQUIREMENTS, Requirements, compute_capability
from hwdash.core.snapshot import DeviceStatus
from hwdash.routing.knowledge import NOTHING_KNOWN, Circumstance, Knowledge
from hwdash.routing.rank import rank
from hwdash.routing.requirement import unmet
from tests.routing.build import (
    GIB,
    LARGE,
    REASONS,
    device_status,
    knowing,
    knowledges,
    machines,
    pace_of,
    requirements,
    snapshot_of,
)


def why(status: DeviceStatus, asked: Requirements = NO_REQUIREMENTS, known: Knowledge = NOTHING_KNOWN) -> str:
    return "; ".join(unmet(status, asked, known))


@given(machines, requirements, knowledges)
def test_no_ranked_device_violates_a_requirement(
    devices: list[DeviceStatus], asked: Requirements, known: Knowledge
) -> None:
    found = rank(snapshot_of(*devices), asked, known)
    by_id = {status.device.id: status for status in devices}
    for ranked in found.ranked:
        status = by_id[ranked.device]
        device = status.device
        assert status.health.state not in (HealthState.LOST, HealthState.STALE)
        assert device.capabilities.inference or known.of(device.key).server is not None
        assert not known.of(device.key).barred
        if asked.kinds:
            assert device.kind in asked.kinds
        for feature in asked.features:
            if feature in ITEM_BYTES:
                assert feature in device.capabilities.dtypes
            else:
                has, least = (
                    compute_capability(device.capabilities.compute_capability or ""),
                    compute_capability(feature),
                )
                assert has is not None
                assert least is not None
                assert has >= least
        if asked.min_memory_bytes is not None:
            assert status.pools[0].free_bytes >= asked.min_memory_bytes
        if asked.max_power_w is not None:
            watts = status.number("power_w") if device.limits.power_w is None else device.limits.power_w
            assert watts is not None
            assert watts <= asked.max_power_w
        if asked.max_latency_s is not None:
            assert ranked.expected is not None
            assert ranked.expected.ttft_s is not None
            first_s = ranked.expected.ttft_s + ranked.expected.wait_s + ranked.expected.cold_start_s
            assert first_s <= asked.max_latency_s
        if known.shape is not None and status.pools and not known.of(device.key).server:
            dtype_bytes = 1 if known.of(device.key).loaded else 2
            weights = 0 if known.of(device.key).loaded else known.shape.parameters * dtype_bytes
            assert status.pools[0].free_bytes >= weights


@pytest.mark.parametrize("health", [HealthState.STALE, HealthState.LOST])
def test_a_device_without_samples_says_what_its_health_says(health: HealthState) -> None:
    assert unmet(device_status("gpu0", health=health), NO_REQUIREMENTS, NOTHING_KNOWN) == REASONS[health]


def test_a_silent_driver_excludes_before_the_device_is_stale() -> None:
    silent = replace(device_status("gpu0"), readings={"utilization": Absent.TIMED_OUT, "power_w": Absent.TIMED_OUT})
    assert why(silent) == "its driver does not answer"


def test_a_device_that_computes_nothing_takes_prompts_where_a_server_answers_for_it() -> None:
    chip = device_status("npu0", inference=False)
    assert why(chip) == "hwdash cannot run models on it"
    assert why(chip, known=knowing({"npu0": Circumstance(server="llama")})) == ""
    module = replace(chip, device=replace(chip.device, runtime=Runtime("hpu", "vendor.torch")))
    assert why(module) == "vendor.torch, by which torch computes on it, is not installed"


def test_what_bars_a_device_is_its_reason() -> None:
    assert why(device_status("gpu0"), known=knowing({"gpu0": Circumstance(barred="no kernels for sm_61")})) == (
        "no kernels for sm_61"
    )


def test_kinds_and_features_name_both_sides() -> None:
    gpu = device_status("gpu0", dtypes=("fp32", "fp16"), compute="8.6")
    assert why(gpu, Requirements(kinds=(DeviceKind.NPU, DeviceKind.TPU))) == "is of kind gpu, not npu or tpu"
    assert why(gpu, Requirements(features=("fp8",))) == "needs fp8, it computes in fp32, fp16"
    assert why(gpu, Requirements(features=("cc8.9",))) == "needs compute capability 8.9, has 8.6"
    assert why(gpu, Requirements(features=("cc8.6", "fp16"))) == ""
    bare = device_status("gpu0", dtypes=(), compute=None)
    assert why(bare, Requirements(features=("bf16", "cc8.0"))) == (
        "needs bf16, its precisions are not known; needs compute capability 8.0, its own is not known"
    )


def test_capabilities_compare_as_numbers() -> None:
    assert why(device_status("gpu0", compute="12.1"), Requirements(features=("cc9.0",))) == ""
    assert why(device_status("gpu0", compute="8.10"), Requirements(features=("cc8.9",))) == ""


def test_memory_counts_in_one_pool_unless_a_program_spans_them() -> None:
    halves = (MemoryPool("node0", 64 * GIB, 40 * GIB, 24 * GIB), MemoryPool("node1", 64 * GIB, 44 * GIB, 20 * GIB))
    gpu = replace(device_status("gpu0"), pools=halves)
    asked = Requirements(min_memory_bytes=40 * GIB)
    assert why(gpu, asked) == "needs 40.0 GiB, 24.0 GiB free"
    host = device_status("cpu0")
    host = replace(host, pools=halves, device=replace(host.device, spans_pools=True))
    assert why(host, asked) == ""
    assert why(device_status("gpu0", free=None), asked) == "needs 40.0 GiB, its free memory is not known"


def test_the_models_need_is_weights_cache_and_runtime() -> None:
    known = knowing(shape=LARGE)
    assert why(device_status("gpu0", free=8 * GIB), known=known) == (
        "the model needs 16.1 GiB (15.0 GiB of weights in bf16, 512 MiB for 4096 tokens of context, "
        "700 MiB for the runtime), 8.00 GiB free"
    )
    assert why(device_status("gpu0", free=17 * GIB), known=known) == ""
    assert "131072 tokens" in why(device_status("gpu0", free=17 * GIB), Requirements(context_tokens=10**7), known)


def test_both_the_least_memory_and_the_models_need_must_be_met() -> None:
    found = unmet(device_status("gpu0", free=8 * GIB), Requirements(min_memory_bytes=10 * GIB), knowing(shape=LARGE))
    assert [item.split(",")[0] for item in found] == [
        "needs 10.0 GiB",
        "the model needs 16.1 GiB (15.0 GiB of weights in bf16",
    ]


def test_a_model_that_fits_only_in_a_smaller_precision_fits() -> None:
    cpu = device_status("cpu0", dtypes=("fp32",), free=20 * GIB)
    assert why(cpu, known=knowing(shape=LARGE)) == ""
    ranked = rank(snapshot_of(cpu), NO_REQUIREMENTS, knowing(shape=LARGE)).ranked[0]
    assert any("in bf16, a smaller precision than usual here" in text for text in ranked.why)
    assert "15.0 GiB of weights in bf16" in why(
        device_status("cpu0", dtypes=("fp32",), free=9 * GIB), known=knowing(shape=LARGE)
    )


def test_a_loaded_model_needs_only_its_cache_and_a_servers_model_nothing() -> None:
    full = device_status("gpu0", free=1 * GIB)
    assert why(full, known=knowing({"gpu0": Circumstance(loaded=True)}, LARGE)) == ""
    assert why(full, known=knowing({"gpu0": Circumstance(server="vllm")}, LARGE)) == ""
    fuller = device_status("gpu0", free=0.1 * GIB)
    assert why(fuller, known=knowing({"gpu0": Circumstance(loaded=True)}, LARGE)) == (
        "the model needs 512 MiB for 4096 tokens of context, 102 MiB free"
    )


def test_power_is_the_limit_and_not_what_is_drawn_now() -> None:
    asked = Requirements(max_power_w=300.0)
    unknown = "may draw 300 W at most, its power limit is not known"
    assert why(device_status("gpu0"), asked) == "may draw 300 W at most, its limit is 700 W"
    assert why(device_status("gpu0", limit_w=None, watts=310.0), asked) == unknown
    assert why(device_status("cpu0", limit_w=None, watts=9.0), asked) == unknown
    assert why(device_status("gpu0", limit_w=None, watts=None), asked) == unknown
    assert why(device_status("gpu0", limit_w=300.0), asked) == ""
    tiny = Requirements(max_power_w=1e-9)
    assert why(device_status("gpu0"), tiny) == "may draw less than 0.1 W at most, its limit is 700 W"


def test_latency_counts_the_wait_and_the_cold_start() -> None:
    asked = Requirements(max_latency_s=1.0)
    loaded = Circumstance(pace_of(), loaded=True)
    assert why(device_status("gpu0"), asked, knowing({"gpu0": loaded})) == ""
    assert why(device_status("gpu0"), asked, knowing({"gpu0": replace(loaded, running=1)})) == (
        "the first token is due in 1.00 s, 1.33 s expected with 1.30 s of waiting"
    )
    assert why(device_status("gpu0"), asked, knowing({"gpu0": replace(loaded, loaded=False)})) == (
        "the first token is due in 1.00 s, 10.2 s expected with 10.1 s of cold start"
    )
    assert (
        why(device_status("gpu0"), asked)
        == "the first token is due in 1.00 s, its time to first token is not known yet"
    )
    assert why(device_status("gpu0"), Requirements(max_latency_s=1e-9)).startswith(
        "the first token is due in less than 1 µs,"
    )
