"""Where requests failed again and again: each model on each device, and devices on which several models failed."""

from __future__ import annotations

from collections import OrderedDict, defaultdict

from hwdash.core.status import BreakerState
from hwdash.routing.breaker import CLOSED, Breaker

_MOST = 1024
"""So many models on devices are remembered: a server that is down fails whatever name it is asked for."""
_MOST_BAD = 64
_MODELS = "different models failed"
_GRAVITY = (BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN)


class Circuits:
    """Breakers by the device's key and the model, and one for the device as a whole.

    The latter counts each model once until one is answered there: a model that kills every worker closes no device to
    the others. All times are seconds of one monotonic clock; *attempt* is the number of a try.
    """

    def __init__(self) -> None:
        self._models: OrderedDict[tuple[str, str], Breaker] = OrderedDict()
        self._devices: dict[str, Breaker] = {}
        self._bad: defaultdict[str, set[str]] = defaultdict(set)

    def begin(self, key: str, model: str, attempt: int, now_s: float) -> None:
        """*attempt* was let through: a trial, where others are kept away."""
        if (breaker := self._models.get((key, model))) is not None:
            self._models[key, model] = breaker.tried(now_s, attempt)
        if (breaker := self._devices.get(key)) is not None:
            self._devices[key] = breaker.tried(now_s, attempt)

    def abandoned(self, key: str, model: str, attempt: int) -> None:
        """*attempt* ended without saying anything."""
        if (breaker := self._models.get((key, model))) is not None:
            self._models[key, model] = breaker.abandoned(attempt)
        if (breaker := self._devices.get(key)) is not None:
            self._devices[key] = breaker.abandoned(attempt)

    def failed(self, key: str, model: str, words: str, began_s: float, now_s: float) -> str:
        """An attempt that *began_s* failed by *words*. What is kept away from now on, in words; empty: nothing new."""
        before = self._models.get((key, model), CLOSED)
        after = self._models[key, model] = before.failed(now_s, words, began_s)
        while len(self._models) > _MOST:
            self._models.popitem(last=False)
        told = ""
        if _opened(before, after, now_s):
            told = f"no prompts for {model} go to it for now: {after.words(now_s)}"
        bad = self._bad[key]
        if model not in bad and len(bad) < _MOST_BAD:
            bad.add(model)
            before = self._devices.get(key, CLOSED)
            after = self._devices[key] = before.failed(now_s, words)
            if _opened(before, after, now_s):
                told = f"no prompts go to it for now: {after.words(now_s, _MODELS)}"
        return told

    def succeeded(self, key: str, model: str, now_s: float) -> str:
        """*model* was answered there. What is let through again, in words; empty: nothing was kept away."""
        told = ""
        breaker = self._models.pop((key, model), CLOSED)
        if breaker.state(now_s) is not BreakerState.CLOSED:
            told = f"it answers {model} again: prompts for it go there as before"
        self._bad.pop(key, None)
        if self._devices.pop(key, CLOSED).state(now_s) is not BreakerState.CLOSED:
            told = "it answers again: prompts go to it as before"
        return told

    def held_back(self, key: str, model: str, now_s: float) -> tuple[str, float]:
        """Why no request for *model* may go there now, and for how many seconds; empty when one may."""
        found = ("", 0.0)
        for breaker, counted in (
            (self._models.get((key, model), CLOSED), "failures"),
            (self._devices.get(key, CLOSED), _MODELS),
        ):
            if not breaker.admits(now_s) and breaker.again_s(now_s) >= found[1]:
                found = breaker.words(now_s, counted), breaker.again_s(now_s)
        return found

    def standing(self, key: str, now_s: float) -> tuple[BreakerState, str]:
        """The worst state of the device's breakers, and what they hold against it and its models."""
        device = self._devices.get(key, CLOSED)
        state, told = device.state(now_s), device.words(now_s, _MODELS)
        words = [told] if told else []
        for (where, model), breaker in self._models.items():
            if where == key and (told := breaker.words(now_s)):
                words.append(f"{model}: {told}")
                state = max(state, breaker.state(now_s), key=_GRAVITY.index)
        return state, "; ".join(words)


def _opened(before: Breaker, after: Breaker, now_s: float) -> bool:
    return after.state(now_s) is BreakerState.OPEN and before.state(now_s) is not BreakerState.OPEN
