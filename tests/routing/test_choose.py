"""The choice: auto takes the best, a name takes that device or says why not."""

from __future__ import annotations

import pytest

from hwdash.core.errors import NoSuitableDevice, UnknownDevice
from hwdash.core.health import HealthState
from hwdash.core.snapshot import DeviceStatus
from hwdash.routing.choose import choose
from hwdash.routing.rank import rank
from tests.routing.test_rank import device_status, snapshot_of


def chosen(requested: str, *devices: DeviceStatus) -> tuple[str, tuple[str, ...]]:
    snapshot = snapshot_of(*devices)
    status, route = choose(snapshot, rank(snapshot), requested)
    assert route.requested == requested
    assert route.fallback_from is None
    return status.device.id, route.why


def test_auto_takes_the_first_of_the_ranking_and_says_why() -> None:
    device, why = chosen("auto", device_status("gpu0", health=HealthState.THROTTLED), device_status("gpu1"))
    assert device == "gpu1"
    assert why == ("best of 2 devices, score 0.800", "health ok", "130 GiB free", "no request measured yet", "0% busy")


@pytest.mark.parametrize("name", ["gpu0", "fake:gpu0"])
def test_a_throttled_device_is_taken_by_name_with_its_reason(name: str) -> None:
    device, why = chosen(name, device_status("gpu0", health=HealthState.THROTTLED), device_status("gpu1"))
    assert device == "gpu0"
    assert why[-1] == "power cap for 38 s: clock 1395 of 1980 MHz"


@pytest.mark.parametrize("health", [HealthState.STALE, HealthState.LOST])
def test_a_device_without_samples_is_not_taken_by_name(health: HealthState) -> None:
    status = device_status("gpu0", health=health)
    with pytest.raises(NoSuitableDevice) as caught:
        chosen("gpu0", status, device_status("gpu1"))
    assert status.health.reasons[0] in caught.value.message


def test_a_device_that_cannot_run_models_is_not_taken_by_name() -> None:
    with pytest.raises(NoSuitableDevice, match=r"npu0.*cannot run models"):
        chosen("npu0", device_status("npu0", inference=False))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownDevice, match="gpu0"):
        chosen("gpu7", device_status("gpu0"))


def test_auto_without_any_suitable_device_names_each_reason() -> None:
    with pytest.raises(NoSuitableDevice) as caught:
        chosen("auto", device_status("gpu0", health=HealthState.LOST), device_status("npu0", inference=False))
    assert "gpu0: lost: fell off the bus" in caught.value.message
    assert "npu0: hwdash cannot run models on it" in caught.value.message
    assert "\n" not in caught.value.message


def test_auto_without_any_device_says_where_to_look() -> None:
    with pytest.raises(NoSuitableDevice, match="hwdash status"):
        chosen("auto")
