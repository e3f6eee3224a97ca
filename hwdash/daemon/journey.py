"""One request on its way from device to device: when it came, where it was, and what became of it there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hwdash.core.errors import (
    EngineError,
    HwdashError,
    ModelError,
    Overloaded,
    PromptTooLong,
    UnknownModel,
    error_from_wire,
)
from hwdash.core.inference import AUTO, InferenceRecord, PromptRequest, Route
from hwdash.daemon.account import Arrival
from hwdash.daemon.gate import Line
from hwdash.daemon.group_gate import GroupLine
from hwdash.daemon.loss import DeviceLeft


@dataclass(frozen=True, slots=True)
class Refusal:
    """A device, by its id, that did not answer, and why.

    ``failed``: it tried, which it did not where it had no room, or where the model is another engine's.
    """

    device: str
    error: HwdashError
    failed: bool

    @property
    def reason(self) -> str:
        """The error without the device's name before it."""
        return self.error.message.removeprefix(f"{self.device}: ")


@dataclass(slots=True)
class Journey:
    """*request*, come at *arrival*. ``queued_s`` it has waited for its turn; ``begun``: its first token was made.

    ``without`` are the servers (None: the workers of our own) that do not have the model, ``full`` the lines that had
    no room, ``conclusion`` writes the records of the attempts so far.
    """

    request: PromptRequest
    arrival: Arrival
    queued_s: float = 0.0
    begun: bool = False
    refusals: list[Refusal] = field(default_factory=list)
    without: set[str | None] = field(default_factory=set)
    full: list[Line | GroupLine] = field(default_factory=list)
    conclusion: asyncio.Task[InferenceRecord] | None = None

    @property
    def free(self) -> bool:
        """Any device may answer."""
        return self.request.device == AUTO

    def goes_on(self, error: HwdashError) -> bool:
        """Whether another device may have more luck after *error*."""
        if not self.free or self.begun or isinstance(error, PromptTooLong):
            return False
        return isinstance(error, EngineError | Overloaded | UnknownModel | ModelError)

    def refuse(self, device: str, server: str | None, error: HwdashError) -> None:
        """*device*, where *server* (None: a worker of our own) answers, did not: *error* says why."""
        lacks = isinstance(error, UnknownModel | ModelError) and server in self.without
        self.refusals.append(Refusal(device, error, not lacks and not isinstance(error, Overloaded | DeviceLeft)))

    async def concluded(self) -> None:
        """Wait until the records of all attempts are stored."""
        if self.conclusion is not None:
            await asyncio.wait({self.conclusion})

    def route(self, device: str, why: tuple[str, ...]) -> Route:
        """The route to *device*, chosen because of *why*, by way of those that did not answer."""
        told = []
        for number, refusal in enumerate(self.refusals):
            later = self.refusals[number + 1].device if number + 1 < len(self.refusals) else device
            verb = "failed" if refusal.failed else "passed over"
            told.append(f"{refusal.device} {verb}: {refusal.reason}; handed to {later}")
        first = next((refusal.device for refusal in self.refusals if refusal.failed), None)
        return Route(self.request.device, (*told, *why), first)

    def handover(self, device: str) -> str:
        """What a client is told when *device* is tried after another; empty for the first one."""
        if not self.refusals:
            return ""
        return f"{self.refusals[-1].device}: {self.refusals[-1].reason}; trying {device}"

    def end(self) -> HwdashError:
        """The error when no device answered: of the kind that the first one met, with what each of them said.

        `Overloaded` only when all were full.
        """
        failed = [refusal for refusal in self.refusals if not isinstance(refusal.error, Overloaded)]
        first = (failed or self.refusals)[0]
        if len({refusal.error.message.replace(refusal.device, "") for refusal in self.refusals}) == 1:
            return first.error
        others = "; ".join(f"{refusal.device}: {refusal.reason}" for refusal in self.refusals if refusal is not first)
        message = f"{first.device}: {first.reason}; no other device answered ({others})"
        if isinstance(first.error, Overloaded):
            wait_s = min(
                refusal.error.retry_after_s for refusal in self.refusals if isinstance(refusal.error, Overloaded)
            )
            return Overloaded(message, param=first.error.param, retry_after_s=wait_s)
        return error_from_wire(first.error.code, message, first.error.param)
