"""``python -m hwdash.engine.worker.follower FD``: drives one more device for a worker whose model is spread over several.

The worker leads: it loads its own part, and makes every call of its decoder here, too. A follower ends with its leader.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import msgspec

from hwdash.core.errors import DeviceFull, HwdashError
from hwdash.core.text import sanitise_line
from hwdash.engine.child import child_command
from hwdash.engine.message import Load
from hwdash.engine.worker.decoder import BeyondRepair, Decoder, Made, Sampling, SequenceFailed
from hwdash.engine.worker.lifeline import die_with_parent

_BROKEN = 70
_REFUSED = 71
"""What a follower ends with that could not load its part, and says why in an error."""
_PATIENCE_S = 10.0
"""A leader that meets the same error as its follower tells it within so long; else it waits for the follower in vain."""
_GONE = "a process that drives one of the model's devices has ended; see the log"
_log = logging.getLogger(__name__)


class Followers:
    """The other processes of a model over ``load.ranks`` devices, which load the same with another rank.

    When one of them ends, this process does: it could only wait for it.
    """

    def __init__(self, load: Load) -> None:
        self.meeting = str(Path(tempfile.mkdtemp(prefix="hwdash-")) / "meeting")
        self._links: list[Connection] = []
        for rank in range(1, load.ranks):
            ours, theirs = Pipe()
            with theirs:
                process = subprocess.Popen(
                    child_command("hwdash.engine.worker.follower", str(theirs.fileno())), pass_fds=(theirs.fileno(),)
                )
            threading.Thread(target=_end_with, args=(process,), name=f"follower {rank}", daemon=True).start()
            share = msgspec.structs.replace(
                load, rank=rank, meeting=self.meeting, torch_device=_device_of(load.torch_device, rank)
            )
            ours.send_bytes(msgspec.msgpack.encode(share))
            self._links.append(ours)

    def met(self) -> None:
        """All have met, and talk to each other without the file by which they did."""
        shutil.rmtree(Path(self.meeting).parent, ignore_errors=True)

    def tell(self, name: str, *arguments: object) -> None:
        """Have every follower make the call *name* of its decoder. Raises `BeyondRepair` when one is gone."""
        try:
            for link in self._links:
                link.send((name, arguments))
        except OSError as error:
            raise BeyondRepair(_GONE) from error

    def open(self, number: int, *arguments: object) -> str:
        """Have every follower take in what is sequence *number* here; the words of one that has no room for it, or none.

        Raises `BeyondRepair` when one is gone.
        """
        self.tell("open", number, *arguments)
        try:
            return next(filter(None, [link.recv() for link in self._links]), "")
        except (OSError, EOFError) as error:
            raise BeyondRepair(_GONE) from error


class LeadingDecoder:
    """A `hwdash.engine.worker.decoder.Decoder` whose every call is made by *followers*, too.

    All have the same sequences open. A step that fails here leaves the others waiting for this part of it: nothing can
    be computed together after that, and `BeyondRepair` is raised.
    """

    def __init__(self, decoder: Decoder, followers: Followers) -> None:
        self.kind = decoder.kind
        self.slots = decoder.slots
        self.choices = decoder.choices
        self.capture_s = decoder.capture_s
        self._decoder = decoder
        self._followers = followers

    def open(self, prompt: Sequence[int], limit: int, sampling: Sampling) -> int:
        """Take in a sequence on all devices. Raises `DeviceFull` where one of them has no room; then none has it."""
        number = self._decoder.open(prompt, limit, sampling)
        if full := self._followers.open(number, list(prompt), limit, sampling):
            self.close(number)
            raise DeviceFull(full)
        return number

    def read(self, number: int) -> bool:
        """Read the next chunk of a prompt on all devices."""
        self._followers.tell("read", number)
        with _together():
            return self._decoder.read(number)

    def advance(self) -> Sequence[Made]:
        """One step on all devices; all come to the same tokens, and those of the leader are given."""
        self._followers.tell("advance")
        with _together():
            return self._decoder.advance()

    def close(self, number: int) -> None:
        """Let go of a sequence on all devices that are still there."""
        self._decoder.close(number)
        with contextlib.suppress(BeyondRepair):  # the next step tells of it
            self._followers.tell("close", number)

    def idle(self) -> bool:
        """What was put off, on all devices."""
        self._followers.tell("idle")
        with _together():
            return self._decoder.idle()

    def read_bytes(self, context: int, batch: int = 1) -> int:
        """Bytes that one step reads on each of the devices."""
        return self._decoder.read_bytes(context, batch)


@contextlib.contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error, SequenceFailed) else error
        reason = sanitise_line(str(cause), 160) or type(cause).__name__
        raise BeyondRepair(
            f"a step of a model over several devices failed on one of them, and the others cannot go on: {reason}; "
            "the model is loaded again with the next request"
        ) from error


def _end_with(process: subprocess.Popen[bytes]) -> None:
    """End this process when that one has, unless that was told to."""
    code = process.wait()
    if not code:
        return
    if code == _REFUSED:
        time.sleep(_PATIENCE_S)
    _log.error(
        "process %d, which drives one of the model's devices, has ended with %d; so does this", process.pid, code
    )
    os._exit(_BROKEN)


def _device_of(leader: str, rank: int) -> str:
    kind, _, number = leader.partition(":")
    return f"{kind}:{int(number) + rank}" if number else leader


def follow(link: Connection) -> None:
    """Load, then make every call that comes over *link*, until it is closed."""
    load = msgspec.msgpack.decode(link.recv_bytes(), type=Load)
    from hwdash.engine.worker.loading import load_model
    from hwdash.engine.worker.selection import choose_decoder

    try:
        decoder = choose_decoder(load_model(load, lambda detail, share: None), load)
    except HwdashError as error:
        _log.error("this part of the model is not loaded: %s", error.message)
        os._exit(_REFUSED)
    numbers: dict[int, int] = {}
    while True:
        call: tuple[str, tuple[Any, ...]] = link.recv()
        name, arguments = call
        if name == "open":
            link.send(_opened(decoder, numbers, *arguments))
        elif name == "read":
            decoder.read(numbers[arguments[0]])
        elif name == "close":
            if (number := numbers.pop(arguments[0], None)) is not None:
                decoder.close(number)
        else:
            getattr(decoder, name)()


def _opened(decoder: Decoder, numbers: dict[int, int], number: int, *arguments: Any) -> str:
    """Take in what is sequence *number* of the leader, and note its number here; where there is no room, what to say."""
    try:
        numbers[number] = decoder.open(*arguments)
    except DeviceFull as error:
        return error.message
    return ""


def main() -> None:
    """Run as a program until the leader ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    die_with_parent()
    try:
        follow(Connection(int(sys.argv[1])))
    except EOFError:
        os._exit(0)
    except Exception:  # noqa: BLE001 - whatever it is, the leader waits for it in vain
        _log.exception("a follower fails, and its leader with it")
        os._exit(_BROKEN)


if __name__ == "__main__":
    main()
