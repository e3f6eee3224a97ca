"""Workers over several devices beside workers on one of them."""

from __future__ import annotations

from hwdash.core.device import Capabilities, Device, DeviceKind
from hwdash.core.group import group_device
from tests.engine.script import Scene, ask, said

GPUS = tuple(
    Device(
        f"nvidia:GPU-{number}",
        DeviceKind.GPU,
        "NVIDIA",
        "Some GPU",
        "nvml",
        f"gpu{number}",
        capabilities=Capabilities("9.0", ("fp32", "bf16"), inference=True),
        visible_as=f"GPU-{number}",
    )
    for number in range(3)
)
PAIR = group_device(GPUS[:2])


async def test_a_group_has_workers_of_its_own_over_all_its_devices(scene: Scene) -> None:
    engine = scene.engine()
    assert await said(engine, ask("a"), PAIR) == "a a a "
    load = scene.load_of("one")
    assert (load.ranks, load.torch_device) == (2, "cuda:0")
    await said(engine, ask("a"), GPUS[0])
    assert scene.load_of("one").ranks == 1
    assert [worker.device for worker in engine.workers()] == ["gpu0", "gpu0+gpu1"]
    assert len({worker.pid for worker in engine.workers()}) == 2
    assert engine.standing("one", PAIR).loaded
    assert not engine.standing("one", GPUS[1]).loaded


async def test_idle_workers_on_any_of_its_devices_make_room_for_a_group_and_it_for_them(scene: Scene) -> None:
    scene.room(1)
    engine = scene.engine()

    def alive() -> list[tuple[str, str]]:
        return [(worker.model, worker.device) for worker in engine.workers() if worker.pid is not None]

    await said(engine, ask("a", model="one"), GPUS[1])
    await said(engine, ask("a", model="two"), PAIR)
    assert alive() == [("two", "gpu0+gpu1")]
    await said(engine, ask("a", model="three"), GPUS[0])
    assert alive() == [("three", "gpu0")]
