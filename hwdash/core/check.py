"""What ``hwdash doctor`` says: one finding about this machine each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check came out, from best to worst; ``skip`` is for what this machine does not have."""

    SKIP = "skip"
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, how it is, and what to do about it (empty where nothing is to be done)."""

    name: str
    verdict: Verdict
    words: str
    fix: str = ""
