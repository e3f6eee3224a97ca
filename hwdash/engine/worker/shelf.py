"""Weights in 8 bits kept beside a stored model, since making them takes longer than all else of starting it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hwdash.engine.manifest import MANIFEST

NAME = "weights.8bit"
"""Not ``*.safetensors``, though it is one: it is no part of the checkpoint."""
_FORMAT = 1
"""Counted up when tables are laid out in another way."""
_MOST_BYTES = 2 * 2**30
_SHARE_OF_DISK = 0.1
_KEY, _ERRORS = "of", "errors"
_WORK, _STALE_S = ".8bit-", 3600
_log = logging.getLogger(__name__)


class Shelf:
    """The tables of a model, by number. One that does not belong to the files as they are now is as good as empty.

    Only models in the store have one, which removing the model removes; other directories are not written to.
    """

    def __init__(self, directory: Path, weights: Sequence[Path]) -> None:
        self._path = directory / NAME
        self._is_allowed = (directory / MANIFEST).is_file()
        self._key = _key(weights)
        self._errors: dict[str, float] = {}
        self._file: Any = None
        if self._is_allowed:
            self._open()

    def _open(self) -> None:
        try:
            file = safe_open(self._path, framework="pt")
            about = file.metadata() or {}
            errors = json.loads(about.get(_ERRORS, "{}"))
            if about.get(_KEY) == self._key and errors.keys() == set(file.keys()):
                self._file, self._errors = file, {name: float(error) for name, error in errors.items()}
        except FileNotFoundError:
            return
        except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
            _log.warning("%s is not used: %s", self._path, error)

    @property
    def is_filled(self) -> bool:
        """Whether there are tables."""
        return self._file is not None

    def take(self, number: int, shape: Sequence[int]) -> tuple[torch.Tensor, float] | None:
        """Table *number* in memory and the error of its numbers; None where there is none of this *shape*."""
        name = str(number)
        if name not in self._errors:
            return None
        about = self._file.get_slice(name)
        if about.get_dtype() != "U8" or about.get_shape() != list(shape):
            return None
        table: torch.Tensor = self._file.get_tensor(name).clone()
        return table, self._errors[name]

    def fill(self, tables: Mapping[int, tuple[torch.Tensor, float]]) -> None:
        """Keep *tables* with the errors of their numbers, all or none: nothing depends on it."""
        size = sum(table.nbytes for table, _ in tables.values())
        if not self._is_allowed or not tables or size > _MOST_BYTES:
            return
        errors = json.dumps({str(number): error for number, (_, error) in tables.items()})
        try:
            if size > _SHARE_OF_DISK * shutil.disk_usage(self._path.parent).free:
                return
            for left in self._path.parent.glob(f"{_WORK}*"):  # by a worker that ended meanwhile
                if time.time() - left.stat().st_mtime > _STALE_S:
                    shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=_WORK, dir=self._path.parent) as work:
                made = Path(work) / NAME
                save_file(
                    {str(number): table for number, (table, _) in tables.items()},
                    made,
                    {_KEY: self._key, _ERRORS: errors},
                )
                with made.open("rb") as file:
                    os.fsync(file.fileno())
                made.replace(self._path)
        except (SafetensorError, OSError) as error:
            _log.warning("weights in 8 bits are not kept: %s", error)
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def _key(weights: Sequence[Path]) -> str:
    """What tables belong to: the files that they were made of, and what decides how they are made and laid out."""
    files = [(path.name, about.st_size, about.st_mtime_ns) for path in weights for about in (path.stat(),)]
    return json.dumps([_FORMAT, files, str(torch.__version__), torch.backends.cpu.get_cpu_capability()])
