"""The tokens of a file for an event loop, whatever the disk does and whoever else needs threads."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from hwdash.daemon.token import Token, TokenFile, TokenFileBusy, TokenFileError

LIMIT_S = 5.0


class TokenReader:
    """Reads *file* on a thread of its own: others that hang do not hold it up. No read is waited for longer than *limit_s*.

    At most one read runs and one waits for its turn, however many ask.
    """

    def __init__(self, file: TokenFile, limit_s: float = LIMIT_S) -> None:
        self._file = file
        self._limit_s = limit_s
        self._executor = ThreadPoolExecutor(1, "hwdash-token")
        self._running: asyncio.Task[tuple[Token, ...] | TokenFileError] | None = None
        self._next: asyncio.Task[tuple[Token, ...] | TokenFileError] | None = None

    async def read(self) -> tuple[Token, ...]:
        """All tokens, as the file has them at some time after this call. Raises `TokenFileError` as `TokenFile.read` does."""
        # A read that has begun may have missed a change: whoever comes meanwhile shares the one after it.
        if self._next is None:
            self._next = asyncio.create_task(self._turn(self._running))
        try:
            async with asyncio.timeout(self._limit_s):
                found = await asyncio.shield(self._next)
        except TimeoutError:
            raise TokenFileBusy(f"the file of tokens could not be read within {self._limit_s:g} s") from None
        if isinstance(found, TokenFileError):
            raise found
        return found

    def close(self) -> None:
        """Wait for no read any more: what has been asked for is cancelled."""
        for task in (self._running, self._next):
            if task is not None:
                task.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _turn(
        self, before: asyncio.Task[tuple[Token, ...] | TokenFileError] | None
    ) -> tuple[Token, ...] | TokenFileError:
        if before is not None:
            await asyncio.wait({before})
        self._running, self._next = self._next, None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._file.read)
        except TokenFileError as error:
            return error
