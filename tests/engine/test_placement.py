"""Where a worker computes, and what keeps it from computing elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hwdash.core.device import Capabilities, Device, DeviceKind, Runtime
from hwdash.core.errors import EngineError
from hwdash.core.group import group_device
from hwdash.engine.placement import placement_of


def gpu(vendor: str, visible_as: str | None) -> Device:
    dtypes = ("fp32", "fp16", "bf16")
    return Device(
        "k",
        DeviceKind.GPU,
        vendor,
        "Some GPU",
        "s",
        id="gpu3",
        capabilities=Capabilities(dtypes=dtypes),
        visible_as=visible_as,
    )


def test_an_nvidia_gpu_is_pinned_by_its_uuid() -> None:
    placement = placement_of(gpu("NVIDIA", "GPU-2aea7f2d"))
    assert (placement.torch_device, placement.dtype) == ("cuda:0", "bf16")
    assert placement.environment == {"CUDA_VISIBLE_DEVICES": "GPU-2aea7f2d"}


def test_an_amd_gpu_is_pinned_by_its_number_and_no_other_vendors_gpu_stands_in() -> None:
    placement = placement_of(gpu("AMD", "GPU-b1a7c0ffee00d00d"))
    assert (placement.torch_device, placement.dtype) == ("cuda:0", "bf16")
    assert placement.environment == {
        "ROCR_VISIBLE_DEVICES": "GPU-b1a7c0ffee00d00d",
        "HIP_VISIBLE_DEVICES": "0",
        "CUDA_VISIBLE_DEVICES": "",
    }


@pytest.mark.parametrize(
    ("vendor", "told", "expected"),
    [("NVIDIA", "9.0", "sm_90"), ("NVIDIA", "12.1", "sm_121"), ("NVIDIA", None, ""), ("AMD", "gfx942", "gfx942")],
)
def test_what_code_for_a_gpu_is_built_for(vendor: str, told: str | None, expected: str) -> None:
    capabilities = Capabilities(compute_capability=told, dtypes=("fp32",))
    placement = placement_of(replace(gpu(vendor, "GPU-1"), capabilities=capabilities))
    assert placement.architecture == expected
    assert (placement.dtype, placement.smaller) == ("fp32", ("bf16",))
    assert placement_of(gpu(vendor, "GPU-1")).smaller == ()


@pytest.mark.parametrize("device", [gpu("AMD", None), gpu("NVIDIA", None), gpu("Intel", "0000:03:00.0")])
def test_what_cannot_be_pinned_is_refused(device: Device) -> None:
    with pytest.raises(EngineError, match="gpu3"):
        placement_of(device)


def test_a_chip_computes_as_its_profile_says() -> None:
    runtime = Runtime("hpu", "vendor.torch", "VENDOR_VISIBLE")
    placement = placement_of(replace(gpu("Vendor", "3"), kind=DeviceKind.NPU, runtime=runtime))
    assert placement.torch_device == "hpu"
    assert placement.module == "vendor.torch"
    assert placement.environment == {"VENDOR_VISIBLE": "3"}
    with pytest.raises(EngineError, match="gpu3"):
        placement_of(replace(gpu("Vendor", "3"), runtime=Runtime(url="http://127.0.0.1:8000/v1")))


def test_a_cpu_without_bf16_may_hold_weights_in_eight_bits() -> None:
    cpu = replace(gpu("AMD", None), kind=DeviceKind.CPU, capabilities=Capabilities(dtypes=("fp32",), compute_units=6))
    placement = placement_of(cpu, quantize=True)
    assert (placement.dtype, placement.quantize, placement.threads) == ("fp32", True, 6)
    assert not placement_of(cpu).quantize
    native = replace(cpu, capabilities=Capabilities(dtypes=("fp32", "bf16")))
    assert (placement_of(native, quantize=True).dtype, placement_of(native, quantize=True).quantize) == ("bf16", False)
    assert not placement_of(gpu("NVIDIA", "GPU-1"), quantize=True).quantize


def test_a_group_is_pinned_by_the_identities_of_all_its_devices() -> None:
    def pair(vendor: str) -> Device:
        one = replace(gpu(vendor, "GPU-1"), capabilities=Capabilities("9.0", ("fp32", "bf16"), inference=True))
        return group_device((one, replace(one, key="l", id="gpu4", visible_as="GPU-2")))

    placement = placement_of(pair("NVIDIA"))
    assert (placement.torch_device, placement.ranks) == ("cuda:0", 2)
    assert placement.environment == {"CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2"}
    assert placement_of(gpu("NVIDIA", "GPU-1")).ranks == 1
    assert placement_of(pair("AMD")).environment == {
        "ROCR_VISIBLE_DEVICES": "GPU-1,GPU-2",
        "HIP_VISIBLE_DEVICES": "0,1",
        "CUDA_VISIBLE_DEVICES": "",
    }
