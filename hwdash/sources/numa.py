"""Main memory by NUMA node (kernel document "admin-guide/mm/numaperf", files ``node*/meminfo``)."""

from __future__ import annotations

import re

from hwdash.core.device import MemoryPool
from hwdash.sources.sysfs import ReadFailure, Tree

_NODES = "sys/devices/system/node"
_LINE = re.compile(r"^Node [0-9]{1,6} (\w+(?:\(\w+\))?): *([0-9]{1,15}) kB$", re.MULTILINE)
_RECLAIMABLE = ("MemFree", "Active(file)", "Inactive(file)", "SReclaimable")
"""What a node can give without swapping: it states no ``MemAvailable`` of its own."""
_MOST_NODES = 64


def find_nodes(tree: Tree) -> tuple[int, ...]:
    """The numbers of the nodes that have memory; empty on a machine with only one, which has nothing to tell apart."""
    numbers = [int(match[1]) for name in tree.names(_NODES) if (match := re.fullmatch(r"node([0-9]{1,6})", name))]
    nodes = tuple(number for number in numbers[:_MOST_NODES] if read_node(tree, number) is not None)
    return nodes if len(nodes) > 1 else ()


def read_node(tree: Tree, number: int) -> MemoryPool | None:
    """The memory of one node; None when it has none or does not tell."""
    try:
        text = tree.text(f"{_NODES}/node{number}/meminfo", 16_384)
    except ReadFailure:
        return None
    values = {name: int(kibibytes) * 1024 for name, kibibytes in _LINE.findall(text)}
    total, free = values.get("MemTotal", 0), values.get("MemFree")
    if total <= 0 or free is None or free > total:
        return None
    room = min(total, sum(values.get(name, 0) for name in _RECLAIMABLE))
    return MemoryPool(f"node{number}", total, total - room, room, numa_node=number)
