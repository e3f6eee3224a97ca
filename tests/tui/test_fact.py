"""What the detail says about a device, and how rows of partitions, sleepers and suspects look."""

from __future__ import annotations

from dataclasses import replace

from hwdash.core.device import Limits, MemoryPool, Runtime
from hwdash.core.health import Health, HealthState, SuspicionKind
from hwdash.core.process import DeviceProcess
from hwdash.core.ranking import ExcludedDevice, RankedDevice, Ranking
from hwdash.core.reading import Absent, Reading
from hwdash.core.sample import Fault, FaultLevel
from hwdash.core.snapshot import DeviceStatus
from hwdash.core.throttle import ThrottleActivity, ThrottleReason
from hwdash.core.trial import DtypeSpeed
from hwdash.tui import cell
from hwdash.tui.column import plan, row_line
from hwdash.tui.fact import facts
from hwdash.tui.gauge import Fact
from hwdash.tui.glyphs import ASCII, UNICODE
from hwdash.tui.line import plain
from hwdash.tui.row import Row, SortOrder, rows_of, state_words
from tests.tui.sample import GIB, START, gpu, snapshot_of, status


def said(found: DeviceStatus) -> list[Fact]:
    return list(facts(Row(found)))


def words_of(found: DeviceStatus, label: str) -> list[str]:
    """What stands beside *label*, with the lines below it that have none."""
    words: list[str] = []
    current = ""
    for fact in said(found):
        current = fact.label or current
        if current == label:
            words.append(fact.words)
    return words


def with_readings(**readings: Reading) -> DeviceStatus:
    found = status(gpu(0))
    return replace(found, readings=dict(found.readings) | readings)


def test_faults_come_first_and_are_not_said_twice() -> None:
    fault = Fault("row_remap_pending", "2 rows wait for a reset: restart the jobs on it")
    broken = Fault("fell_off", "it says that it has failed", FaultLevel.FAILED)
    health = Health(HealthState.LOST, (f"failed: {broken.words}", fault.words, "seen 12 s ago"), START)
    found = said(replace(status(gpu(0)), faults=(fault, broken), health=health))
    assert [(fact.label, fact.words) for fact in found[:4]] == [
        ("state", "LOST"),
        ("fault", fault.words),
        ("fault", broken.words),
        ("", "seen 12 s ago"),
    ]
    assert [fact.style for fact in found[1:3]] == ["warm", "lost"]


def suspect(*kinds: SuspicionKind) -> DeviceStatus:
    health = Health(HealthState.THROTTLED, ("whatever the words",), START, suspected=True, suspicions=kinds)
    return replace(status(gpu(0)), health=health)


def test_a_suspicion_has_a_question_mark_and_the_word() -> None:
    found = suspect(SuspicionKind.CLOCK, SuspicionKind.MEMORY)
    assert state_words(Row(found)) == "THROTTLED? suspected clock"
    assert state_words(Row(found), short=True) == "THROTTLED? clock"
    assert state_words(Row(suspect(SuspicionKind.ANSWERS)), short=True) == "THROTTLED? latency"
    assert state_words(Row(suspect(SuspicionKind.MEMORY)), short=True) == "THROTTLED? memory"
    assert state_words(Row(suspect())) == "THROTTLED? suspected"
    assert any("no flag of the driver" in fact.words for fact in said(found))
    assert cell.state(Row(found), 19, UNICODE)[0] == ("THROTTLED? clock", "throttled")


def test_only_limiting_reasons_are_listed_and_all_counted_seconds() -> None:
    throttle = (
        ThrottleActivity(ThrottleReason.POWER_CAP, True, 1.0, seconds=3412.4),
        ThrottleActivity(ThrottleReason.THERMAL_SW, False, 0.0, seconds=12.0),
        ThrottleActivity(ThrottleReason.SYNC_BOOST, False, 0.0, seconds=0.0),
    )
    found = status(gpu(0), throttle=throttle)
    assert words_of(found, "throttle") == ["power cap: now, 100% of the time"]
    assert words_of(found, "so far") == ["power cap 3,412 s, thermal slowdown 12 s since driver start"]
    assert words_of(status(gpu(0), throttle=throttle[2:]), "so far") == []


def test_a_link_with_fewer_lanes_is_flagged_and_a_slower_one_is_not() -> None:
    found = with_readings(pcie_link_generation=4.0, pcie_link_width=8.0, pcie_rx_bytes_per_s=2.0**30)
    found = replace(found, device=replace(gpu(0), limits=Limits(pcie_link_generation=5, pcie_link_width=16)))
    line = next(fact for fact in said(found) if fact.label == "pcie")
    assert line.words == "gen 4 x8 of gen 5 x16, fewer lanes than it could have: check the slot, received 1.00 GiB/s"
    assert line.style == "warm"
    calm = replace(found, readings=dict(found.readings) | {"pcie_link_width": 16.0, "pcie_link_generation": 1.0})
    line = next(fact for fact in said(calm) if fact.label == "pcie")
    assert line.words.startswith("gen 1 x16 of gen 5 x16, received")
    assert line.style == "text"


def test_work_heat_errors_and_links_are_said_where_they_are_known() -> None:
    found = with_readings(
        memory_bandwidth_utilization=0.43,
        tensor_utilization=0.12,
        nvlink_rx_bytes_per_s=1e9,
        memory_temperature_c=64.0,
        ecc_uncorrected_total=1.0,
        remapped_rows_total=2.0,
        memory_read_bytes_per_s=Absent.FIRST_SAMPLE,
    )
    assert words_of(found, "busy") == ["tensor cores 12%, memory bandwidth 43%"]
    assert words_of(found, "nvlink") == ["received 954 MiB/s"]
    assert words_of(found, "heat") == ["memory 64 °C of 105 °C"]
    assert words_of(found, "ecc") == ["1 uncorrected, 2 remapped rows"]
    assert words_of(found, "traffic") == []
    assert any("memory read: next sample" in fact.words for fact in said(found))
    assert words_of(replace(found, clock_is_set=True), "clock") == ["held down by a user's setting"]


def test_programs_are_named_up_to_a_number_and_their_absence_has_a_reason() -> None:
    many = tuple(DeviceProcess(pid, name="[/x]", user="ann", memory_bytes=pid * GIB) for pid in range(1, 11))
    words = words_of(replace(status(gpu(0)), processes=(*many, DeviceProcess(99))), "programs")
    assert words[0] == "10  ann  [/x]  10.0 GiB"
    assert len(words) == 9
    assert words[-1] == "3 more"
    assert words_of(replace(status(gpu(0)), processes=()), "programs") == ["none"]
    assert words_of(status(gpu(0)), "programs") == []
    denied = replace(status(gpu(0)), processes=Absent.NO_PERMISSION)
    assert any(fact.words == "programs: no permission" for fact in said(denied))


def test_pools_say_whose_they_are() -> None:
    pools = (
        MemoryPool("node0", 4 * GIB, GIB, 3 * GIB, numa_node=0),
        MemoryPool("gtt", 2 * GIB, 0, 2 * GIB, shared=True),
    )
    found = replace(status(replace(gpu(0), spans_pools=True)), pools=pools)
    assert words_of(found, "memory") == [
        "node0 (NUMA node 0): 3.00 GiB free of 4.00 GiB",
        "gtt (shared with the host): 2.00 GiB free of 2.00 GiB",
        "one program can use all of them together",
    ]


def test_runtime_and_firmware() -> None:
    torch = replace(gpu(0), firmware="96.00.A5", runtime=Runtime("tt:0", "torch_tt", "TT_VISIBLE_DEVICES"))
    assert words_of(status(torch), "firmware") == ["96.00.A5"]
    assert words_of(status(torch), "runtime")[0] == (
        "torch device tt:0, registered by torch_tt, pinned by TT_VISIBLE_DEVICES"
    )
    server = replace(gpu(0), runtime=Runtime(url="http://127.0.0.1:8000/v1"))
    assert words_of(status(server), "runtime")[0] == "the server at http://127.0.0.1:8000/v1"


def test_a_sleeper_is_calm() -> None:
    found = with_readings(**dict.fromkeys(("utilization", "power_w", "temperature_c", "clock_hz"), Absent.SUSPENDED))
    found = replace(found, health=Health(HealthState.OK, ("asleep",), START))
    assert state_words(Row(found, excluded=True)) == "asleep"
    assert cell.state(Row(found), 19, UNICODE)[0] == ("asleep", "muted")
    assert [fact.words for fact in said(found)].count("asleep") == 1


def test_partitions_hang_below_their_device_with_their_rank() -> None:
    whole = status(gpu(0), utilization=0.1)
    parts = [
        status(replace(gpu(number), id=f"gpu0.{number}", parent=gpu(0).key), utilization=0.3 * number)
        for number in (1, 2)
    ]
    orphan = status(replace(gpu(7), parent="nvidia:GPU-elsewhere"))
    ranking = Ranking(
        "balanced",
        {},
        tuple(RankedDevice(name, 0.9, {}, ()) for name in ("gpu3", "gpu0.2", "gpu7", "gpu0.1")),
        (ExcludedDevice("gpu0", ("its partitions are used instead",)),),
    )
    snapshot = snapshot_of(whole, *parts, status(gpu(3)), orphan, order=ranking)
    rows = rows_of(snapshot)
    assert [row.status.device.id for row in rows] == ["gpu3", "gpu0", "gpu0.2", "gpu0.1", "gpu7"]
    assert [row.rank for row in rows] == [1, None, 2, 4, 3]
    assert rows[1].partitions == ("gpu0.2", "gpu0.1")
    assert rows[2].parent == "gpu0"
    assert rows[4].parent == ""
    for glyphs, branch in ((UNICODE, "└"), (ASCII, "`")):
        columns, gap = plan(80, rows)
        assert f"{branch}gpu0.2 " in plain(row_line(rows[2], columns, gap, glyphs, old=False))
    busiest = rows_of(snapshot, SortOrder.UTILISATION)
    assert [row.status.device.id for row in busiest[2:]] == ["gpu0", "gpu0.2", "gpu0.1"]
    words = [fact.words for fact in facts(rows[1]) if fact.label == "parts"]
    assert words == ["gpu0.2, gpu0.1"]
    assert any((fact.label, fact.words) == ("part of", "gpu0") for fact in facts(rows[2]))


def test_bandwidth_and_tensor_columns_only_where_there_is_room_and_a_device_that_tells() -> None:
    telling = (Row(with_readings(memory_bandwidth_utilization=0.43, tensor_utilization=Absent.FIRST_SAMPLE)),)
    names = {column.name for column in plan(200, telling)[0]}
    assert names >= {"bandwidth", "tensor"}
    assert not names & {column.name for column in plan(80, telling)[0]} & {"bandwidth", "tensor"}
    columns, gap = plan(200, telling)
    assert " 43%   n/a " in plain(row_line(telling[0], columns, gap, UNICODE, old=False))
    assert "bandwidth" not in {column.name for column in plan(200, (Row(status(gpu(0))),))[0]}


def test_an_emulated_precision_is_marked() -> None:
    found = status(gpu(0))
    tried = (DtypeSpeed("fp32", 1.0), DtypeSpeed("bf16", 0.7, emulated=True))
    able = replace(found.device.capabilities, dtypes=("fp32", "bf16"), tried=tried)
    found = replace(found, device=replace(found.device, capabilities=able))
    assert words_of(found, "computes")[0] == "fp32, bf16 (emulated: 0.7x fp32)"
