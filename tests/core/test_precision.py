"""In which precision a device computes, from what it claims and from what a trial found."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hwdash.core.device import Capabilities, Device, DeviceKind
from hwdash.core.precision import choose_dtype, holds_int8, smaller_dtypes
from hwdash.core.trial import DeviceTrial, DtypeTrial


def device(kind: DeviceKind, *dtypes: str) -> Device:
    return Device("k", kind, "V", "N", "s", capabilities=Capabilities(dtypes=dtypes))


def trial(*, emulated: tuple[str, ...] = (), **weights_per_s: float | None) -> DeviceTrial:
    found = tuple(DtypeTrial(name, None, None, rate, name in emulated) for name, rate in weights_per_s.items())
    return DeviceTrial("k", "1", "2.11", datetime(2026, 1, 1, tzinfo=UTC), found)


GPU = device(DeviceKind.GPU, "fp32", "fp16", "bf16")
PLAIN = device(DeviceKind.CPU, "fp32")
NATIVE = device(DeviceKind.CPU, "fp32", "bf16")


def test_an_emulated_precision_is_not_chosen() -> None:
    slow = trial(fp32=10.0, fp16=20.0, bf16=5.0, emulated=("bf16",))
    assert choose_dtype(GPU, slow) == "fp16"
    assert choose_dtype(GPU, trial(fp32=10.0, fp16=2.0, bf16=5.0, emulated=("bf16", "fp16"))) == "fp32"
    assert choose_dtype(GPU, trial(fp32=10.0, fp16=20.0, bf16=20.0)) == "bf16"
    assert choose_dtype(NATIVE, trial(fp32=10.0, bf16=5.0, emulated=("bf16",))) == "fp32"
    assert smaller_dtypes(NATIVE, trial(fp32=10.0, bf16=5.0, emulated=("bf16",))) == ("bf16",)
    assert smaller_dtypes(NATIVE) == ()


@pytest.mark.parametrize(
    ("claims", "known", "expected"),
    [
        (PLAIN, None, True),
        (PLAIN, trial(fp32=10.0, int8=20.0), True),
        (PLAIN, trial(fp32=10.0, int8=9.0), False),
        (PLAIN, trial(fp32=10.0, int8=None), True),
        (NATIVE, None, False),
        (NATIVE, trial(fp32=10.0, bf16=15.0, int8=20.0), True),
        (NATIVE, trial(fp32=10.0, bf16=25.0, int8=20.0), False),
        (GPU, trial(fp32=10.0, bf16=5.0, int8=20.0, emulated=("bf16",)), False),
        (device(DeviceKind.GPU, "fp32"), None, False),
    ],
)
def test_eight_bits_where_they_are_faster(claims: Device, known: DeviceTrial | None, expected: bool) -> None:
    assert holds_int8(claims, known) is expected
    if expected:
        assert choose_dtype(claims, known, quantize=True) == "fp32"


def test_bf16_gives_way_to_eight_bits_only_where_they_are_allowed() -> None:
    known = trial(fp32=10.0, bf16=15.0, int8=20.0)
    assert choose_dtype(NATIVE, known) == "bf16"
    assert choose_dtype(NATIVE, known, quantize=True) == "fp32"
