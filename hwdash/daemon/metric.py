"""What Prometheus is told of devices and answers: live at every scrape, nothing is kept but counts."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from hwdash.core.errors import HwdashError
from hwdash.core.ranking import Ranking
from hwdash.core.requirement import Policy, Requirements
from hwdash.core.snapshot import Snapshot
from hwdash.daemon.metric_device import fill_build, fill_devices, fill_queues, fill_scores
from hwdash.daemon.metric_page import Page, render
from hwdash.daemon.metric_probe import fill_probes
from hwdash.daemon.metric_tally import Tally

if TYPE_CHECKING:
    from hwdash.daemon.service import Service

log = logging.getLogger(__name__)

_RANKING_S = 1.0


class Metrics:
    """Counts the answers of *service* from now on, and tells of its devices when asked."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._tally = Tally(self._key_of)
        self._turn = asyncio.Lock()
        service.observers.append(self._tally.add)
        service.followers.append(self._tally.follow)

    async def text(self, *, openmetrics: bool, zipped: bool) -> bytes:
        """The page as of now. Before the first snapshot there are no devices on it.

        One scrape at a time is written, on a thread of its own: that of a large machine takes a while, and the
        daemon's other threads may all hang on a dead disk just when the numbers are wanted.
        """
        async with self._turn:
            work = partial(_write, await self._page(), self._service.snapshots.latest, openmetrics, zipped)
            thread = ThreadPoolExecutor(1, "metrics")
            try:
                return await asyncio.get_running_loop().run_in_executor(thread, work)
            finally:
                thread.shutdown(wait=False)

    async def _page(self) -> Page:
        """What only the event loop may look at."""
        page = Page()
        fill_build(page)
        self._tally.fill(page)
        fill_probes(page, self._service.prober.newest())
        if (snapshot := self._service.snapshots.latest) is not None:
            fill_scores(page, snapshot, await self._rankings())
            fill_queues(page, snapshot, self._service.status().admission)
        return page

    async def _rankings(self) -> list[Ranking]:
        """The order under every policy; none where the default model is not known, or its files do not answer."""
        model = self._service.default_model
        rankings = []
        try:
            async with asyncio.timeout(_RANKING_S):
                for policy in Policy:
                    rankings.append(await self._service.rank(Requirements(policy=policy, model=model)))
                    await asyncio.sleep(0)  # others have their turn: on a large machine each takes a while
        except (HwdashError, TimeoutError) as error:
            log.debug("no scores under every policy: %r", error)
        return rankings

    def _key_of(self, device: str) -> str:
        latest = self._service.snapshots.latest
        for status in latest.devices if latest is not None else ():
            if status.device.id == device:
                return status.device.key
        return device


def _write(page: Page, snapshot: Snapshot | None, openmetrics: bool, zipped: bool) -> bytes:
    if snapshot is not None:
        fill_devices(page, snapshot)
    return render(page, openmetrics=openmetrics, zipped=zipped)
