"""In which precision a device computes, from what it claims and from what a trial found."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hwdash.core.device import Capabilities, Device, DeviceKind
from hwdash.core.precision import choose_dtype, holds_int8, loadable_dtypes, smaller_dtypes
from hwdash.core.trial import DeviceTrial, DtypeTrial, dtype_words


def claims(kind: DeviceKind, *dtypes: str) -> Device:
    return Device("k", kind, "V", "N", "s", capabilities=Capabilities(dtypes=dtypes))


def tried(claims: Device, *, emulated: tuple[str, ...] = (), **relative: float | None) -> Device:
    """*claims* after a trial in which fp32 read one weight a second."""
    found = tuple(DtypeTrial(name, None, None, rate, name in emulated) for name, rate in relative.items())
    known = DeviceTrial(
        "k", "1", "2.11", datetime(2026, 1, 1, tzinfo=UTC), (DtypeTrial("fp32", None, None, 1.0), *found)
    )
    return replace(claims, capabilities=replace(claims.capabilities, tried=known.speeds))


GPU = claims(DeviceKind.GPU, "fp32", "fp16", "bf16")
PLAIN = claims(DeviceKind.CPU, "fp32")
NATIVE = claims(DeviceKind.CPU, "fp32", "bf16")


def test_an_emulated_precision_is_not_chosen() -> None:
    assert choose_dtype(tried(GPU, fp16=2.0, bf16=0.5, emulated=("bf16",))) == "fp16"
    assert choose_dtype(tried(GPU, fp16=0.2, bf16=0.5, emulated=("bf16", "fp16"))) == "fp32"
    assert choose_dtype(tried(GPU, fp16=2.0, bf16=2.0)) == "bf16"
    slow = tried(NATIVE, bf16=0.5, emulated=("bf16",))
    assert choose_dtype(slow) == "fp32"
    assert smaller_dtypes(slow) == ("bf16",)
    assert smaller_dtypes(NATIVE) == ()


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (PLAIN, True),
        (tried(PLAIN, int8=2.0), True),
        (tried(PLAIN, int8=0.9), False),
        (tried(PLAIN, int8=None), True),
        (NATIVE, False),
        (tried(NATIVE, bf16=1.5, int8=2.0), True),
        (tried(NATIVE, bf16=2.5, int8=2.0), False),
        (tried(GPU, bf16=0.5, int8=2.0, emulated=("bf16",)), False),
        (claims(DeviceKind.GPU, "fp32"), False),
    ],
)
def test_eight_bits_where_they_are_faster(device: Device, expected: bool) -> None:
    assert holds_int8(device) is expected
    if expected:
        assert choose_dtype(device, quantize=True) == "fp32"


def test_bf16_gives_way_to_eight_bits_only_where_they_are_allowed() -> None:
    known = tried(NATIVE, bf16=1.5, int8=2.0)
    assert choose_dtype(known) == "bf16"
    assert choose_dtype(known, quantize=True) == "fp32"


def test_precisions_in_words() -> None:
    known = tried(NATIVE, bf16=0.7, int8=2.0, emulated=("bf16",)).capabilities
    assert dtype_words(known.dtypes, known.tried) == "fp32, bf16 (emulated: 0.7x fp32)"
    assert dtype_words(("fp32", "fp16"), ()) == "fp32, fp16"


def test_without_a_figure_for_fp32_nothing_is_said_of_the_others() -> None:
    found = (DtypeTrial("fp32", problem="no"), DtypeTrial("bf16", 1.0, 1.0, 1.0))
    assert DeviceTrial("k", "1", "2.11", datetime(2026, 1, 1, tzinfo=UTC), found).speeds == ()


def test_all_that_models_are_loaded_in() -> None:
    assert loadable_dtypes(claims(DeviceKind.GPU, "fp32", "fp16", "bf16", "fp8")) == ("bf16", "fp32", "fp16")
    assert loadable_dtypes(PLAIN) == ("fp32", "bf16", "int8")
    assert loadable_dtypes(tried(PLAIN, int8=2.0)) == ("fp32", "bf16", "int8")
    assert loadable_dtypes(tried(PLAIN, bf16=0.5)) == ("fp32", "bf16")  # this torch has no kernels for it here
