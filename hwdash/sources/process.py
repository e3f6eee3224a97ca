"""Names and users of programs, by their process ids."""

from __future__ import annotations

import logging
import pwd
import threading
from collections.abc import Callable
from dataclasses import dataclass

from hwdash.core.clock import SYSTEM_CLOCK, Clock
from hwdash.core.text import sanitise_line
from hwdash.sources.sysfs import ReadFailure, Tree

_logger = logging.getLogger(__name__)

MAX_PID = 2**22
"""The largest process id of Linux (proc(5), ``pid_max``)."""

_AGE_S = 3.0
"""How long a name is believed: a process can run another program, and its id can become another process's."""
_MOST_KNOWN = 4096
_COMM_BYTES = 15
"""``/proc/PID/comm`` is cut to this many bytes."""
_LONGEST = 64

_USER_AGE_S = 300.0
_MOST_USERS = 1024
_MAX_UID = 2**32 - 1


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """What the system says of a process; both None where it is not to be seen (another container's process).

    ``name`` is its command and ``user`` whose it is, safe for a terminal; a user without a known name is a number.
    ``pending`` is true while that name is being asked for the first time.
    """

    name: str | None = None
    user: str | None = None
    pending: bool = False


NOBODY = ProcessIdentity()
"""A process that is not to be seen."""


def _passwd_name(uid: int) -> str:
    return pwd.getpwuid(uid).pw_name


class UserNames:
    """Names of user ids, by *lookup* (`pwd.getpwuid`): it may ask a directory over the network and hang.

    It is called on a thread of its own, which lives while there is something to ask.
    """

    def __init__(self, lookup: Callable[[int], str] = _passwd_name, clock: Clock = SYSTEM_CLOCK) -> None:
        self._lookup = lookup
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[int, tuple[float, str]] = {}
        self._wanted: dict[int, None] = {}
        self._asking = False

    def of(self, uid: int) -> str:
        """The name of the user *uid*; the number as text as long as no name is known. Never waits.

        A name older than 5 minutes is asked for again and good until there is an answer.
        """
        with self._lock:
            asked_s, name = self._known.get(uid, (float("-inf"), str(uid)))
            if self._clock.monotonic() - asked_s >= _USER_AGE_S and len(self._wanted) < _MOST_USERS:
                self._wanted[uid] = None
                self._begin()
        return name

    def knows(self, uid: int) -> bool:
        """True once there was an answer for *uid*."""
        return uid in self._known

    def _begin(self) -> None:
        if self._asking:
            return
        try:
            threading.Thread(target=self._ask, name="hwdash-user-names", daemon=True).start()
        except RuntimeError as error:  # no more threads: the numbers stay
            _logger.debug("names of users: %s", error)
        else:
            self._asking = True

    def _ask(self) -> None:
        while True:
            with self._lock:
                if not self._wanted:
                    self._asking = False
                    return
                uid = next(iter(self._wanted))
            try:
                name = sanitise_line(self._lookup(uid), _LONGEST) or str(uid)
            except (LookupError, ValueError, OverflowError, OSError):
                name = str(uid)
            with self._lock:
                del self._wanted[uid]
                self._known.pop(uid, None)
                while len(self._known) >= _MOST_USERS:
                    del self._known[next(iter(self._known))]
                self._known[uid] = self._clock.monotonic(), name


_USERS = UserNames()
"""One for all tables: a directory that hangs holds up one thread."""


class ProcessTable:
    """Names and users from ``/proc`` in *tree*. For use by one thread."""

    def __init__(self, tree: Tree, users: UserNames = _USERS) -> None:
        self._tree = tree
        self._users = users
        self._known: dict[int, tuple[float, str | None, int | None]] = {}

    def look(self, pid: int, now_s: float) -> ProcessIdentity:
        """Who *pid* is at *now_s* on the monotonic clock; a name is not older than 3 s. Never waits for a directory."""
        if not 0 < pid <= MAX_PID:
            return NOBODY
        known = self._known.get(pid)
        if known is None or not 0.0 <= now_s - known[0] < _AGE_S:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[pid] = now_s, self._name(f"proc/{pid}"), self._uid(f"proc/{pid}")
        _, name, uid = known
        if uid is None:
            return ProcessIdentity(name)
        pending = not self._users.knows(uid)
        return ProcessIdentity(name, self._users.of(uid), pending)

    def _name(self, place: str) -> str | None:
        """The command: its short form, or where that was cut the name of the program that was started."""
        comm = self._tree.line(f"{place}/comm")
        if comm is not None and len(comm.encode()) < _COMM_BYTES:
            return sanitise_line(comm, _LONGEST) or None
        try:
            command = self._tree.text(f"{place}/cmdline", 4096).partition("\0")[0]
        except ReadFailure:
            command = ""
        # A program that titled itself (``postgres: writer``) has no path there.
        name = command.partition(" ")[0].rpartition("/")[2]
        if comm is not None and not name.startswith(comm.rstrip("\ufffd")):
            name = comm
        return sanitise_line(name, _LONGEST) or None

    def _uid(self, place: str) -> int | None:
        status = self._tree.line(f"{place}/status") or ""
        words = next((line.split() for line in status.splitlines() if line.startswith("Uid:")), [])
        text = words[1] if len(words) > 1 else ""
        if not (text.isascii() and text.isdecimal() and len(text) < 11):
            return None
        return int(text) if int(text) <= _MAX_UID else None
