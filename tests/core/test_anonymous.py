"""What is left out of a recording that is shared, and what stays."""

from __future__ import annotations

from dataclasses import replace

from hwdash.core.anonymous import Anonymiser
from hwdash.core.device import Runtime
from hwdash.core.health import Health, HealthState
from hwdash.core.snapshot import LastRequest
from hwdash.core.wire import dumps, to_wire
from hwdash.sources.fake import fake_gpu
from tests.core.test_recording import NOW, event, snapshot

KEY = "nvidia:GPU-2aea7f2d-1111-2222-3333-444455556666"
PCI = "00000000:17:00.0"


def test_nothing_names_the_machine_and_everything_else_stays() -> None:
    before = snapshot(power_w=5.0)
    status = before.devices[0]
    device = replace(
        fake_gpu(id="gpu0"), key=KEY, pci=PCI, parent=KEY, visible_as="GPU-2aea", runtime=Runtime(url="http://lab7:80")
    )
    status = replace(
        status,
        device=device,
        health=Health(HealthState.LOST, (f"lost: {PCI} is gone",), NOW),
        last_request=LastRequest("/home/ann/models/llama", NOW, 0.1),
    )
    anonymous = Anonymiser()
    after = anonymous.snapshot(replace(before, devices=(status,)))
    text = dumps(to_wire(after)).decode()
    for secret in ("2aea7f2d", "17:00.0", "lab7", "ann", "python"):
        assert secret not in text
    kept = after.devices[0]
    assert kept.readings == status.readings
    assert kept.throttle == status.throttle
    assert kept.device.key.startswith("nvidia:")
    assert kept.device.parent == kept.device.key
    assert kept.last_request is not None
    assert kept.last_request.model == "llama"
    told = anonymous.event(event(key=KEY, words=f"XID 79 on {PCI}"))
    assert told.key == kept.device.key
    assert PCI not in told.words


def test_a_device_has_the_same_key_in_every_recording() -> None:
    keys = {Anonymiser().snapshot(snapshot()).devices[0].device.key for _ in range(2)}
    assert len(keys) == 1
    assert keys != {snapshot().devices[0].device.key}
