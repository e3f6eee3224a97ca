"""One request on its way from device to device: when it came, where it was, and what became of it there."""

from __future__ import annotations

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
from hwdash.core.inference import AUTO, PromptRequest, Route
from hwdash.daemon.account import Arrival
from hwdash.daemon.gate import Gate


@dataclass(frozen=True, slots=True)
class Refusal:
    """A device (its id, and the name of the server that answers there, if one does) that did not answer, and why."""

    device: str
    server: str | None
    error: HwdashError

    @property
    def failed(self) -> bool:
        """The device tried and failed: neither has it no room, nor is the model another engine's."""
        return not isinstance(self.error, Overloaded | UnknownModel | ModelError)

    @property
    def reason(self) -> str:
        """The error without the device's name before it."""
        return self.error.message.removeprefix(f"{self.device}: ")


@dataclass(slots=True)
class Journey:
    """*request*, come at *arrival*. ``queued_s`` it has waited for its turn; ``begun``: its first token was made."""

    request: PromptRequest
    arrival: Arrival
    queued_s: float = 0.0
    begun: bool = False
    refusals: list[Refusal] = field(default_factory=list)
    full: list[Gate] = field(default_factory=list)

    def goes_on(self, error: HwdashError) -> bool:
        """Whether another device may have more luck after *error*."""
        if self.request.device != AUTO or self.begun or isinstance(error, PromptTooLong):
            return False
        return isinstance(error, EngineError | Overloaded | UnknownModel | ModelError)

    def useless(self, server: str | None) -> bool:
        """A device where *server* (None: a worker of our own) answers has no other models than one that was tried."""
        return any(
            isinstance(refusal.error, UnknownModel | ModelError) and refusal.server == server
            for refusal in self.refusals
        )

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
