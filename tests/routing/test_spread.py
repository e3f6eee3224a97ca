"""What fits no GPU alone is offered to several: in the ranking, and in the error of a prompt."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.errors import NoSuitableDevice, UsageError
from hwdash.core.requirement import DEFAULT_CONTEXT, NO_REQUIREMENTS, Requirements
from hwdash.core.snapshot import DeviceStatus
from hwdash.routing.choose import choose
from hwdash.routing.estimate import Case, free_bytes
from hwdash.routing.knowledge import Circumstance, Knowledge
from hwdash.routing.need import ACCELERATOR_RUNTIME_BYTES
from hwdash.routing.rank import rank
from hwdash.routing.spread import together
from hwdash.routing.trait import trait_of
from tests.routing.build import GIB, LARGE, device_status, knowing, machines, requirements, snapshot_of

NEEDED = LARGE.weight_bytes("bf16") + LARGE.cache_bytes("bf16", LARGE.context(DEFAULT_CONTEXT))


def like(number: int, free: float, name: str = "Fake X", **changes: object) -> DeviceStatus:
    """A GPU like all others of that *name*."""
    status = device_status(f"gpu{number}", free=free)
    return replace(status, device=replace(status.device, name=name, visible_as=f"GPU-{number}", **changes))  # type: ignore[arg-type]


def offered(*devices: DeviceStatus, known: Knowledge | None = None) -> dict[str, str]:
    return together(Case(NO_REQUIREMENTS, known or knowing(shape=LARGE)), devices)


def test_two_like_gpus_with_room_are_offered_and_the_fewest_that_have_it() -> None:
    words = "fits gpu0+gpu1 together: name them with --device gpu0+gpu1"
    pair = [like(number, 10 * GIB) for number in (0, 1)]
    assert offered(*pair) == {"gpu0": words, "gpu1": words}
    third = like(2, 12 * GIB)
    assert set(offered(*pair, third).values()) == {"fits gpu0+gpu2 together: name them with --device gpu0+gpu2"}
    four = [like(number, 6 * GIB) for number in range(4)]
    assert set(offered(*four).values()) == {
        "fits gpu0+gpu1+gpu2+gpu3 together: name them with --device gpu0+gpu1+gpu2+gpu3"
    }
    assert offered(*four[:3]) == {}


def test_nothing_is_offered_where_it_would_not_help() -> None:
    small = like(0, 10 * GIB)
    assert offered(small, like(1, 100 * GIB)) == {}
    assert offered(small, like(1, 10 * GIB, "Fake Y")) == {}
    assert offered(small, like(1, 10 * GIB, parent="fake:gpu0")) == {}
    assert offered(small, like(1, 1 * GIB)) == {}
    assert offered(small, like(1, 10 * GIB), known=knowing(shape=None)) == {}
    barred = knowing({"gpu1": Circumstance(barred="3 failures in a row")}, LARGE)
    assert offered(small, like(1, 10 * GIB), known=barred) == {}


@given(st.lists(st.integers(0, 40 * GIB), min_size=1, max_size=9))
def test_what_is_offered_has_room_and_what_has_room_is_offered(frees: list[int]) -> None:
    devices = [like(number, free) for number, free in enumerate(frees)]
    known = knowing(shape=LARGE)
    found = offered(*devices, known=known)
    one = Case(NO_REQUIREMENTS, known)

    def needed(status: DeviceStatus) -> int:
        need = one.need(free_bytes(status), trait_of(status.device), Circumstance())
        assert need is not None
        return need.total_bytes

    alone = [status for status, free in zip(devices, frees, strict=True) if needed(status) <= free]
    best = sorted(frees, reverse=True)
    weights = NEEDED
    possible = [n for n in (2, 4, 8) if n <= len(frees) and weights + n * ACCELERATOR_RUNTIME_BYTES <= n * best[n - 1]]
    assert bool(found) == (bool(possible) and not alone)
    for words in found.values():
        name = words.removeprefix("fits ").partition(" ")[0]
        assert len(name.split("+")) == possible[0]
        choice = choose(snapshot_of(*devices), name, NO_REQUIREMENTS, known)
        assert choice.candidates[0].status.device.id == name


def test_the_ranking_and_the_errors_say_so() -> None:
    pair, known = [like(number, 10 * GIB) for number in (0, 1)], knowing(shape=LARGE)
    ending = "10.0 GiB free; fits gpu0+gpu1 together: name them with --device gpu0+gpu1"
    ranking = rank(snapshot_of(*pair), NO_REQUIREMENTS, known)
    assert [item.device for item in ranking.excluded] == ["gpu0", "gpu1"]
    assert all(item.why[-1].endswith(ending) for item in ranking.excluded)
    for name in ("auto", "gpu0"):
        with pytest.raises(NoSuitableDevice, match=r"fits gpu0\+gpu1 together: name them with --device gpu0\+gpu1"):
            choose(snapshot_of(*pair), name, NO_REQUIREMENTS, known)
    choice = choose(snapshot_of(*pair), "gpu1+gpu0", NO_REQUIREMENTS, known)
    (candidate,) = choice.candidates
    assert candidate.why[:2] == ("asked for by name", "spread over gpu0 and gpu1")
    tight = [like(number, 5 * GIB) for number in (0, 1)]
    with pytest.raises(NoSuitableDevice, match=r"gpu0\+gpu1 cannot take the prompt: the model needs .* 10\.0 GiB free"):
        choose(snapshot_of(*tight), "gpu0+gpu1", NO_REQUIREMENTS, known)
    with pytest.raises(UsageError, match="names a device twice"):
        choose(snapshot_of(*pair), "gpu0+gpu0", NO_REQUIREMENTS, known)


@given(machines, requirements)
def test_devices_without_their_like_are_never_offered(devices: list[DeviceStatus], asked: Requirements) -> None:
    assert together(Case(asked, knowing(shape=LARGE)), devices) == {}
