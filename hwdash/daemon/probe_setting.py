"""What the answer to a probe depends on besides the device and the model: driver, versions, question, weights, and the way it is computed."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hwdash import __version__
from hwdash.core.device import Device
from hwdash.core.errors import HwdashError
from hwdash.core.inference import PROBE, Message, PromptRequest
from hwdash.core.status import WorkerStatus

QUESTION = "Once upon a time there was a machine that counted its own steps. Each morning it"
"""What a model goes on with for as long as it may, in words that leave a choice: tokens change when numbers do."""
_MEASURED = re.compile(r"\b\d+(?:\.\d+)? ?(?:%|m?s\b)")
"""Times and shares in a worker's words, which differ from one load to the next without another way of computing."""
_LOOK_S = 2.0
_PACKAGES = ("torch", "transformers")


def question(model: str, device: Device, max_tokens: int, *, chat: bool) -> PromptRequest:
    """The same request for every probe of *model*: greedy, and without a chat template unless *chat*.

    Templates may put the date of the day before the question. Not every server answers without one.
    """
    return PromptRequest((Message("user", QUESTION),), model, device.key, max_tokens, template=chat, origin=PROBE)


class ProbeSettings:
    """The driver and versions of a device, which weights a worker holds and how it computes, as one text.

    *directory* finds a model's files; it may block, and is asked once for each worker.
    """

    def __init__(self, directory: Callable[[str], Path], max_tokens: int) -> None:
        self._directory = directory
        self._weights: dict[tuple[str, str], tuple[int | None, str]] = {}
        self._ours = "; ".join(
            [f"hwdash {__version__}", f"question {zlib.crc32(QUESTION.encode()):08x} of {max_tokens} tokens"]
        )
        self._versions: str | None = None

    async def text(self, device: Device, model: str, server: str | None, worker: WorkerStatus | None) -> str:
        """The text for *model* on *device*, where *server*, or else *worker*, answers."""
        driver = f"driver {device.driver}" if device.driver else "no driver version"
        if server is not None:
            return f"{driver}; server {server}; {self._ours}"
        if self._versions is None:
            self._versions = ", ".join(await asyncio.to_thread(_versions))
        name, pid = (device.key, model), None if worker is None else worker.pid
        known = self._weights.get(name)
        if known is None or known[0] != pid:
            known = self._weights[name] = (pid, await self._files(model))
        weights = f"; weights {known[1]}" if known[1] else ""
        return f"{driver}; {self._versions}; {self._ours}{weights}{_way(device, worker)}"

    async def _files(self, model: str) -> str:
        """A mark of the model's files that changes with them; empty where they do not tell."""
        try:
            async with asyncio.timeout(_LOOK_S):
                return await asyncio.to_thread(self._mark, model)
        except (HwdashError, OSError):
            return ""

    def _mark(self, model: str) -> str:
        files = sorted(path for path in self._directory(model).glob("*") if path.is_file())
        if not files:
            return ""
        facts = [(path.name, status.st_size, status.st_mtime_ns) for path in files if (status := path.stat())]
        return f"{zlib.crc32(repr(facts).encode()):08x}"


def _way(device: Device, worker: WorkerStatus | None) -> str:
    """How *worker* computes: its decoder, over how many devices, and a mark of what it chose; empty where it does not tell."""
    if worker is None or not worker.decoder:
        return ""
    choices = [_MEASURED.sub("", words) for words in worker.choices]
    return f"; {worker.decoder} over {max(1, len(device.members))}, choices {zlib.crc32(repr(choices).encode()):08x}"


def _versions() -> list[str]:
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found
