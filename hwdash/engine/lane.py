"""The jobs of one model on one device: those that wait, those that the worker runs, and who wants it loaded."""

from __future__ import annotations

import asyncio
from collections import deque

from hwdash.core.errors import HwdashError, error_from_wire
from hwdash.core.inference import StageEvent
from hwdash.engine.job import Job


class Lane:
    """At most *places* jobs run at once; the others wait in order of arrival. Belongs to one event loop."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.waiting: deque[Job] = deque()
        self.running: dict[int, Job] = {}
        self._warmers: list[asyncio.Future[None]] = []

    @property
    def jobs(self) -> int:
        """How many run or wait."""
        return len(self.running) + len(self.waiting)

    @property
    def wanted(self) -> bool:
        """Somebody waits for a worker."""
        return bool(self.waiting) or any(not warmer.done() for warmer in self._warmers)

    @property
    def forsaken(self) -> bool:
        """Nobody is left who wants what runs."""
        return all(job.withdrawn for job in self.running.values())

    def next(self) -> Job | None:
        """The job whose turn it is, which runs from now on; None where none waits or no place is free."""
        if not self.waiting or len(self.running) >= self.places:
            return None
        job = self.waiting.popleft()
        self.running[job.number] = job
        return job

    def drop(self, job: Job) -> bool:
        """Take *job* away from those that wait; whether it was among them."""
        if job in self.waiting:
            self.waiting.remove(job)
            return True
        return False

    def warmer(self) -> asyncio.Future[None]:
        """What is done when the model is loaded, or raises what loading raises."""
        self._warmers.append(asyncio.get_running_loop().create_future())
        return self._warmers[-1]

    def tell(self, event: StageEvent) -> None:
        """Tell all that wait."""
        for job in self.waiting:
            job.stage(event)

    def settle(self, error: HwdashError | None = None) -> None:
        """The model is loaded, or could not be because of *error*."""
        for warmer in self._warmers:
            if warmer.done():
                continue
            if error is None:
                warmer.set_result(None)
            else:
                warmer.set_exception(error_from_wire(error.code, error.message, error.param))
        self._warmers.clear()

    def fail_first(self, error: HwdashError) -> None:
        """Fail the job that has waited longest, and who wants nothing but the model loaded."""
        self.settle(error)
        if self.waiting:
            self.waiting.popleft().fail(error)

    def fail_running(self, error: HwdashError) -> None:
        """Fail all that run."""
        running, self.running = self.running, {}
        for job in running.values():
            job.fail(error)

    def fail_waiting(self, error: HwdashError) -> None:
        """Fail all that wait."""
        self.settle(error)
        while self.waiting:
            self.waiting.popleft().fail(error)
