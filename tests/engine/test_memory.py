"""What is free on a device, and which precision fits there; which code a build of torch has for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from hwdash.core.errors import DeviceFull, EngineError, NoKernels
from hwdash.core.model import ModelShape
from hwdash.engine.worker.host_memory import host_bytes
from hwdash.sources.cgroup import ControlGroups
from hwdash.sources.sysfs import Tree

GIB = 2**30
MEMINFO = f"MemTotal: 99 kB\nMemAvailable: {8 * GIB // 1024} kB\n"


def host(root: Path, groups: dict[str, tuple[str, str]]) -> Path:
    """A ``/proc`` and ``/sys`` in *root*, with each group's limit and usage; the last one is that of the process."""
    own = root / "proc/self"
    own.mkdir(parents=True)
    (root / "proc/meminfo").write_text(MEMINFO)
    (own / "cgroup").write_text("1:name=systemd:/x\n0::/" + list(groups)[-1] + "\n")
    for name, (limit, usage) in groups.items():
        folder = root / "sys/fs/cgroup" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(limit)
        (folder / "memory.current").write_text(usage)
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {GIB}\n")
    return root


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({"a": ("max", "0")}, 8 * GIB),
        ({"a": (str(4 * GIB), str(2 * GIB))}, 3 * GIB),
        ({"a": (str(4 * GIB), str(2 * GIB)), "a/b": ("max", str(GIB))}, 3 * GIB),
        ({"": (str(3 * GIB), str(GIB)), "a": (str(4 * GIB), str(2 * GIB))}, 3 * GIB),
        ({"a": (str(GIB), str(3 * GIB))}, 0),
        ({"a": ("broken", "1"), "../../../outside": ("1", "1")}, 8 * GIB),
    ],
)
def test_the_host_has_what_its_groups_allow(tmp_path: Path, groups: dict[str, tuple[str, str]], expected: int) -> None:
    assert host_bytes(host(tmp_path, groups)) == expected


def test_groups_of_version_1_bound_the_host_too(tmp_path: Path) -> None:
    root = host(tmp_path, {"": ("max", "0")})
    (root / "proc/self/cgroup").write_text("4:memory:/docker/1\n0::/\n")
    for name, limit in (("", str(2**63 - 4096)), ("docker/1", str(4 * GIB))):
        folder = root / "sys/fs/cgroup/memory" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.limit_in_bytes").write_text(limit)
        (folder / "memory.usage_in_bytes").write_text(str(3 * GIB))
        (folder / "memory.stat").write_text(f"inactive_file 7\ntotal_inactive_file {GIB}\n")
    assert host_bytes(root) == 2 * GIB


def test_loading_and_ranking_count_the_same(tmp_path: Path) -> None:
    root = host(tmp_path, {"a": (str(4 * GIB), str(2 * GIB)), "a/b": ("max", str(GIB))})
    assert host_bytes(root) == ControlGroups(Tree(root)).memory_room() == 3 * GIB


def test_a_host_that_tells_nothing(tmp_path: Path) -> None:
    assert host_bytes(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_bytes(b"MemAvailable: \xff\n")
    assert host_bytes(tmp_path) is None


def test_an_accelerator_is_asked_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from hwdash.engine.worker import memory

    def refused(_: object) -> tuple[int, int]:
        raise RuntimeError("CUDA error: out of memory")

    assert memory.available_bytes(torch.device("cpu")) == pytest.approx(host_bytes() or 0, rel=0.5)
    assert memory.available_bytes(torch.device("meta")) is None
    monkeypatch.setattr(torch.xpu, "mem_get_info", lambda _: (5, 9))
    assert memory.available_bytes(torch.device("xpu:0")) == 5
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (6, 9))
    assert memory.available_bytes(torch.device("cuda:0")) == 6
    monkeypatch.setattr(torch.cuda, "mem_get_info", refused)
    assert memory.available_bytes(torch.device("cuda:0")) is None


def test_the_first_precision_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from hwdash.engine.worker import memory

    device = torch.device("cuda:0")
    need = memory.Need("m", GIB, ModelShape(GIB, layers=1, cache_values_per_token=1024))
    assert need.total_bytes("bf16", device) == 2 * GIB + 2 * 512 * 1024 + 256 * 2**20

    def fitting(free: int | None) -> list[tuple[str, str]]:
        monkeypatch.setattr(memory, "available_bytes", lambda _: free)
        return list(need.fitting(("fp32", "bf16"), device))

    told = "bf16 instead of fp32: 4.25 GiB needed"
    assert fitting(5 * GIB) == [("fp32", ""), ("bf16", f"{told}, 5.00 GiB free")]
    assert fitting(3 * GIB) == [("bf16", f"{told}, 3.00 GiB free")]
    assert fitting(None) == [("fp32", ""), ("bf16", told)]
    with pytest.raises(DeviceFull, match=r"needs 4\.25 GiB in fp32 and 2\.25 GiB in bf16 and the device has 1\.00 GiB"):
        fitting(GIB)


def test_what_a_build_of_torch_cannot_do_is_told_before_the_weights_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from hwdash.engine.worker import loading

    def check(architecture: str, cuda: str | None, hip: str | None, capability: tuple[int, int] = (9, 0)) -> None:
        build = SimpleNamespace(cuda=cuda, hip=hip)
        monkeypatch.setattr(torch, "version", build)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        loading._check_device(torch.device("cuda:0"), architecture)

    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check("sm_90", "13.0", None)
    check("", "13.0", None)
    check("gfx942", None, "7.0")
    for architecture, cuda, hip in (("sm_90", None, "7.0"), ("gfx942", "13.0", None), ("sm_90", None, None)):
        with pytest.raises(NoKernels, match=f"has no kernels for {architecture}; install"):
            check(architecture, cuda, hip)
    with pytest.raises(NoKernels, match="for sm_120, only for sm_80 sm_90; install"):
        check("sm_120", "13.0", None, (12, 0))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="run nvidia-smi"):
        check("sm_90", "13.0", None)
