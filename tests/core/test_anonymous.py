"""What is left out of a recording that is shared, and what stays."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from hwdash.core.anonymous import Anonymiser
from hwdash.core.device import Runtime
from hwdash.core.health import Health, HealthState
from hwdash.core.sample import Fault
from hwdash.core.snapshot import LastRequest, SourceStatus
from hwdash.core.wire import dumps, to_wire
from hwdash.sources.fake import fake_gpu
from tests.core.test_recording import NOW, event, snapshot

KEY = "nvidia:GPU-2aea7f2d-1111-2222-3333-444455556666"
PCI = "00000000:17:00.0"
PCI_WORDS = "its PCI address"


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


def test_a_device_has_one_key_in_a_recording_and_another_in_the_next() -> None:
    anonymous = Anonymiser()
    keys = {anonymous.snapshot(snapshot()).devices[0].device.key for _ in range(2)}
    assert len(keys) == 1
    keys |= {Anonymiser().snapshot(snapshot()).devices[0].device.key, snapshot().devices[0].device.key}
    assert len(keys) == 3


def test_the_users_of_the_devices_are_named_nowhere() -> None:
    before = snapshot()
    fault = Fault("mode", "set by ann; annotated by joann: run it as root")
    anonymous = Anonymiser()
    after = anonymous.snapshot(replace(before, devices=(replace(before.devices[0], faults=(fault,)),)))
    assert after.devices[0].faults[0].words == "set by a user; annotated by joann: run it as root"
    assert anonymous.event(event(words="stopped by ann")).words == "stopped by a user"


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("/home/alice/.config/hwdash/chips/a.toml:3: metrics.x is no metric", "a.toml:3: metrics.x is no metric"),
        ("~/.config/a.toml: unknown key; alice may not read it", "a.toml: unknown key; alice may not read it"),
        ("~alice/a.toml: alice may not read it", "a.toml: a user may not read it"),
        ("/home/alice: no permission for alice", "~: no permission for a user"),
        ("cannot read '/mnt/data/alice/x', (/srv/y/)", "cannot read 'x', (y)"),
        ("/sys/bus/pci/devices/0000:03:00.0/hwmon/hwmon3: gone", "hwmon3: gone"),
        ("0000:03:00.0 fell off the bus, PCI:0000:17:00: too", f"{PCI_WORDS} fell off the bus, PCI:{PCI_WORDS}: too"),
        ("no answer from http://lab7.example.com:8000/v1", "no answer from an address"),
        ("12 W/s, r/w, 3 tokens/s, and/or 10:20:30", "12 W/s, r/w, 3 tokens/s, and/or 10:20:30"),
        ("power cap for 42 s of 60 s, until 2 s ago, clock 1980 of 1980 MHz",) * 2,
    ],
)
def test_what_is_said_keeps_its_sense_without_places_and_people(words: str, left: str) -> None:
    anonymous = Anonymiser()
    before = replace(snapshot(), devices=(), sources=(SourceStatus("chips", 0, None, words),))
    assert anonymous.snapshot(before).sources[0].problem == left
    told = anonymous.event(event(words=words, reasons=(words,), rule=words))
    assert {told.words, told.reasons[0], told.rule} <= {left, left.replace("alice", "a user")}


def test_a_uuid_of_a_device_that_is_not_there_is_hashed_too() -> None:
    words = Anonymiser().event(event(words=f"{KEY.partition(':')[2]} is gone")).words
    assert re.fullmatch(r"[0-9a-f]{12} is gone", words)


@pytest.mark.parametrize(
    ("model", "left"),
    [
        ("smollm2-135m-instruct", "smollm2-135m-instruct"),
        ("org/llama", "org/llama"),
        ("/home/alice/models/llama/", "llama"),
        ("~/llama", "llama"),
        ("~alice", "a model"),
        ("/home/alice", "a model"),
        ("secret project/run 7/llama", "llama"),
        ("./llama", "llama"),
    ],
)
def test_a_model_that_is_a_place_keeps_the_last_part(model: str, left: str) -> None:
    before = snapshot()
    status = replace(before.devices[0], last_request=LastRequest(model, NOW))
    last = Anonymiser().snapshot(replace(before, devices=(status,))).devices[0].last_request
    assert last is not None
    assert last.model == left
