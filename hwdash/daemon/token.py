"""Bearer tokens for TCP: made, listed and revoked in one file, which holds their hashes only."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import hmac
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from hwdash.core.clock import SYSTEM_CLOCK
from hwdash.core.errors import HwdashError, UsageError
from hwdash.core.text import sanitise_line

PREFIX = "hwd_"
MAX_TOKENS = 1000
MAX_NAME = 64
_SECRET_BYTES = 32
_MAX_FILE_BYTES = 1 << 20
_LOCK_WAIT_S = 10.0
_LOCK_RETRY_S = 0.01
_PASSING = (
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EINTR),
    *(errno.EAGAIN, errno.EBUSY, errno.EIO, errno.ESTALE, errno.ETIMEDOUT),
)
"""Errors that tell of the machine's state and not of the file's."""


class TokenFileError(HwdashError):
    """The file of tokens cannot be read, trusted or written."""

    http_status = 503
    code = "token_file"


class TokenFileBusy(TokenFileError):
    """The file of tokens cannot be read at the moment. That says nothing about what stands in it."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is kept: never itself, only its SHA-256 in hexadecimal digits."""

    id: str
    name: str
    created_at: datetime
    sha256: str


@dataclass(frozen=True, slots=True)
class _Content:
    tokens: tuple[Token, ...]
    version: int = 1


def digest(secret: str) -> str:
    """The SHA-256 of *secret*.

    A token is 256 random bits: there is nothing to guess, so a slow hash with a salt, as passwords need, would make
    every request dearer and no token safer.
    """
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()


def matching(tokens: Sequence[Token], secret: str) -> Token | None:
    """The one of *tokens* that *secret* is, or None. All are compared, each in constant time."""
    wanted = digest(secret).encode()
    found = None
    for token in tokens:
        if hmac.compare_digest(token.sha256.encode(), wanted):
            found = token
    return found


class TokenFile:
    """The tokens of one state directory. All calls may block; `read` is quick while nothing has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cached: tuple[bytes, tuple[Token, ...]] = (b"", ())

    def read(self) -> tuple[Token, ...]:
        """All tokens, as the file has them now; none where there is no file.

        Raises `TokenFileError` when it cannot be read, is not the own user's alone, or is not understood.
        """
        data = self._load()
        before, tokens = self._cached
        if data != before:
            tokens = self._parse(data)
            self._cached = (data, tokens)
        return tokens

    def create(self, name: str = "") -> tuple[str, Token]:
        """A new token: its secret, which is kept nowhere, and what is kept of it.

        Raises `UsageError` for a *name* that is too long or has control characters, and when there are too many tokens;
        `TokenFileError` as `read` does and when the file cannot be written.
        """
        if name != sanitise_line(name, MAX_NAME):
            raise UsageError(f"name: at most {MAX_NAME} characters, without control characters", param="name")
        secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        with self._locked():
            tokens = self.read()
            if len(tokens) >= MAX_TOKENS:
                raise UsageError(f"there are {MAX_TOKENS} tokens already; revoke some with: hwdash token revoke ID")
            taken = {token.id for token in tokens}
            number = next(number for number in iter(lambda: secrets.token_hex(4), None) if number not in taken)
            token = Token(number, name, SYSTEM_CLOCK.now(), digest(secret))
            self._write((*tokens, token))
        return secret, token

    def revoke(self, name: str) -> Token:
        """Remove the token with the id *name*, or the one that *name* is itself; gives what was kept of it.

        Raises `UsageError` when there is none, `TokenFileError` as `create` does.
        """
        with self._locked():
            tokens = self.read()
            gone = next((token for token in tokens if token.id == name), None) or matching(tokens, name)
            if gone is None:
                shown = "that is no token of this machine" if name.startswith(PREFIX) else f"no token {name!r}"
                raise UsageError(f"{shown}; see: hwdash token list", param="id")
            self._write(tuple(token for token in tokens if token is not gone))
        return gone

    def _load(self) -> bytes:
        try:
            # A FIFO in its place must not hold up whoever opens it.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise self._unread(error) from None
        try:
            words = _why_not_trusted(os.fstat(descriptor), self._path.parent.stat(), os.geteuid())
            data = b"" if words else _read(descriptor)
        except OSError as error:
            raise self._unread(error) from None
        finally:
            os.close(descriptor)
        if words:
            raise self._problem(words)
        if len(data) > _MAX_FILE_BYTES:
            raise self._problem("is larger than 1 MiB: it is no list of tokens")
        if not data:
            raise self._problem("is empty; remove it and create new tokens with: hwdash token create")
        return data

    def _parse(self, data: bytes) -> tuple[Token, ...]:
        if not data:
            return ()
        try:
            content = msgspec.json.decode(data, type=_Content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._problem(
                f"is no list of tokens ({sanitise_line(str(error))}); "
                "remove it and create new tokens with: hwdash token create"
            ) from None
        if content.version != 1:
            raise self._problem(f"is of version {content.version}, which this hwdash does not know; use a newer hwdash")
        return content.tokens

    def _write(self, tokens: tuple[Token, ...]) -> None:
        """Put *tokens* in the file's place as one step, on the disk before it is told."""
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(_Content(tokens)), indent=1) + b"\n")
                file.flush()
                os.fsync(descriptor)
            temporary.rename(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise self._problem(f"cannot be written: {error.strerror}") from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else changes the file meanwhile; its directory is created for the owner alone."""
        path = self._path.with_suffix(".lock")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if words := _why_directory_not_trusted(path.parent.stat(), os.geteuid()):
                raise self._problem(words)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise self._problem(f"cannot be changed: {path}: {error.strerror}; set XDG_STATE_HOME") from None
        try:
            self._acquire(descriptor, path)
            yield
        finally:
            os.close(descriptor)

    def _acquire(self, descriptor: int, path: Path) -> None:
        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise self._problem(f"is being changed by another command: {path} is locked; try again") from None
                time.sleep(_LOCK_RETRY_S)
            except OSError as error:
                raise self._problem(f"cannot be changed: {path} cannot be locked: {error.strerror}") from None
            else:
                return

    def _unread(self, error: OSError) -> TokenFileError:
        kind = TokenFileBusy if error.errno in _PASSING else TokenFileError
        return kind(f"the file of tokens {self._path} cannot be read: {error.strerror}")

    def _problem(self, words: str) -> TokenFileError:
        return TokenFileError(f"the file of tokens {self._path} {words}")


def _read(descriptor: int) -> bytes:
    """One byte more than may be, at most."""
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(_MAX_FILE_BYTES + 1)


def _why_not_trusted(file: os.stat_result, directory: os.stat_result, uid: int) -> str:
    """What is wrong with a file of tokens of *uid*, given its own state and its directory's; empty when it is safe."""
    if not stat.S_ISREG(file.st_mode):
        return "is no regular file; remove it"
    if file.st_uid != uid:
        return f"belongs to user {file.st_uid}, not to you: somebody else may have put tokens in; remove it"
    if file.st_mode & 0o077:
        return f"is open to others (mode {stat.S_IMODE(file.st_mode):04o}); look through it, then: chmod 600"
    return _why_directory_not_trusted(directory, uid)


def _why_directory_not_trusted(directory: os.stat_result, uid: int) -> str:
    if directory.st_uid != uid or directory.st_mode & 0o022:
        return "lies in a directory in which others may replace it; make the directory yours: chmod 700"
    return ""
