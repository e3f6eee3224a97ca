"""One scrape: samples by family, and their text for Prometheus."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from hwdash.core.text import sanitise_line
from hwdash.daemon.metric_family import FAMILIES, Family, FamilyKind

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_FASTEST = 1


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a histogram has counted: values up to and including each of *bounds*, then all; and their sum."""

    bounds: tuple[float, ...]
    cumulative: tuple[int, ...]
    total: float


class Page:
    """The samples of one scrape. A `prometheus_client.registry.Collector`.

    What cannot be true (not a number, a count below zero) is not taken, and of two samples under the same labels the
    first one, so that whatever a driver says, Prometheus takes the page as a whole. A label that is empty is left
    out, which is the same to Prometheus, and so is a family without samples.
    """

    def __init__(self) -> None:
        self._samples: dict[str, dict[tuple[str, ...], float]] = {}
        self._distributions: dict[str, dict[tuple[str, ...], Distribution]] = {}

    def add(self, family: Family, labels: Sequence[str], value: float | None) -> None:
        """One sample; *labels* are the values of ``family.labels``, *value* in the family's unit or None for none."""
        if value is None or not math.isfinite(value) or (value < 0 and family.kind is FamilyKind.COUNTER):
            return
        self._samples.setdefault(family.name, {}).setdefault(tuple(map(_safe, labels)), value)

    def spread(self, family: Family, labels: Sequence[str], distribution: Distribution) -> None:
        """One histogram."""
        self._distributions.setdefault(family.name, {}).setdefault(tuple(map(_safe, labels)), distribution)

    def collect(self) -> Iterator[Metric]:
        """The families in the form of prometheus_client, whose import takes too long for the start of the daemon."""
        from prometheus_client.metrics_core import Metric
        from prometheus_client.samples import Sample

        for family in FAMILIES.values():
            samples = [
                Sample(family.name, _named(family, labels), value)
                for labels, value in self._samples.get(family.name, {}).items()
            ]
            for labels, distribution in self._distributions.get(family.name, {}).items():
                samples += [
                    Sample(family.name + suffix, _named(family, labels) | bound, value)
                    for suffix, bound, value in _series(distribution)
                ]
            if samples:
                name = family.name.removesuffix("_total").removesuffix("_info")
                metric = Metric(name, family.words, family.kind, family.unit)
                metric.samples = samples
                yield metric


def render(page: Page, *, openmetrics: bool, zipped: bool) -> bytes:
    """*page* as OpenMetrics 1.0.0 or as Prometheus text, packed by gzip if *zipped*. Takes milliseconds."""
    from prometheus_client import exposition
    from prometheus_client.openmetrics import exposition as openmetrics_exposition

    # No name here needs escaping; this scheme is the one that does not look at each of their letters.
    scheme = openmetrics_exposition.ALLOWUTF8
    if openmetrics:
        data: bytes = openmetrics_exposition.generate_latest(page, scheme)  # type: ignore[no-untyped-call]
    else:
        data = exposition.generate_latest(page, scheme)
    return gzip.compress(data, _FASTEST, mtime=0) if zipped else data


def _series(distribution: Distribution) -> Iterator[tuple[str, dict[str, str], float]]:
    """The samples of a histogram: suffix, further label, value."""
    for bound, count in zip((*distribution.bounds, math.inf), distribution.cumulative, strict=True):
        yield "_bucket", {"le": "+Inf" if bound == math.inf else str(bound)}, count
    yield "_count", {}, distribution.cumulative[-1]
    yield "_sum", {}, distribution.total


def _named(family: Family, labels: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in zip(family.labels, labels, strict=True) if value}


@lru_cache(maxsize=4096)
def _safe(text: str) -> str:
    return sanitise_line(text)
