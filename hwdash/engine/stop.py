"""The end of an answer at a stop string, no part of which is ever let out."""

from __future__ import annotations

from collections.abc import Sequence


class StopHolder:
    """Lets text through up to the first stop string, and holds back what may be the beginning of one.

    Also holds back a carriage return at the end of a piece, so that CR LF is not torn apart.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._beginnings = {stop[:length] for stop in self._stops for length in range(1, len(stop))} | {"\r"}
        self._longest = max(map(len, self._beginnings))
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The text that can go out now. After a stop string was met, `stopped` is true and no more text comes."""
        if self.stopped:
            return ""
        text = self._held + text
        # The stop string that is complete first counts, so that the result does not depend on how the text was cut.
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)[1]]
        length = next(
            (
                length
                for length in range(min(self._longest, len(text)), 0, -1)
                if text[len(text) - length :] in self._beginnings
            ),
            0,
        )
        cut = len(text) - length
        self._held = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """What was held back and turned out to be no stop string."""
        held, self._held = self._held, ""
        return held
