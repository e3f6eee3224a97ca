"""What works on this machine, what does not, and what to do about it. Blocks; needs no running daemon."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hwdash import __version__
from hwdash.core.check import Check, Verdict
from hwdash.core.config import Config
from hwdash.core.device import Device
from hwdash.core.errors import HwdashError
from hwdash.core.format import bytes_text
from hwdash.core.paths import Paths, why_not_private
from hwdash.core.precision import ITEM_BYTES
from hwdash.core.text import sanitise_line
from hwdash.core.trial import dtype_words
from hwdash.daemon.doctor_source import examine_sources
from hwdash.daemon.trial import installed_torch
from hwdash.engine.models import ModelStore
from hwdash.sources.source import Source
from hwdash.store.database import opened
from hwdash.store.migration import check
from hwdash.store.trial import read_trials

_LITTLE_SPACE = 512 * 2**20
_PACKAGES = ("torch", "transformers", "textual", "nvidia-ml-py", "psutil", "aiosqlite")


def examine(config: Config, paths: Paths, sources: Sequence[Source], settle_s: float = 1.0) -> tuple[Check, ...]:
    """All findings, the program first, then its places, then the hardware that *sources* find.

    Every source is read twice, *settle_s* seconds apart, so that rates are judged as well; one that hangs is a finding.
    """
    devices: list[Device] = []
    hardware = tuple(examine_sources(sources, devices, settle_s))
    return (
        *_guarded("program", _program),
        *_guarded("packages", _packages),
        *_guarded("torch", lambda: _torch(devices)),
        *_guarded("state", lambda: _state(paths)),
        *_guarded("socket", lambda: _socket(paths)),
        *_guarded("models", lambda: _models(config, paths)),
        *hardware,
        *_guarded("precision", lambda: _precisions(paths, devices)),
    )


def worst(checks: Sequence[Check]) -> Verdict:
    """The worst verdict of *checks*; ``ok`` when there is nothing to say."""
    order = tuple(Verdict)
    return max((check.verdict for check in checks), key=order.index, default=Verdict.OK)


def _guarded(name: str, look: Callable[[], Iterator[Check]]) -> tuple[Check, ...]:
    """The findings of *look*; whatever it stumbles over is a finding too."""
    try:
        return tuple(look())
    except (OSError, HwdashError, ValueError) as error:
        return (Check(name, Verdict.FAIL, sanitise_line(str(error)), "see the message"),)


def _program() -> Iterator[Check]:
    words = f"hwdash {__version__}, Python {platform.python_version()}, {platform.system()} {platform.release()}"
    if sys.platform != "linux":
        yield Check("program", Verdict.WARN, words, "hardware is read on Linux only")
    else:
        yield Check("program", Verdict.OK, words)


def _packages() -> Iterator[Check]:
    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        words = f"missing: {', '.join(missing)}"
        yield Check("packages", Verdict.FAIL, words, f"install again: pip install {' '.join(missing)}")
    else:
        yield Check("packages", Verdict.OK, ", ".join(found))


def _torch(devices: Sequence[Device]) -> Iterator[Check]:
    """Whether the installed torch was built for the accelerators that are here. torch itself is not imported."""
    builds = _torch_builds()
    if builds is None:
        return
    cuda, rocm = builds
    wanted = {device.source for device in devices}
    name = f"CUDA {cuda}" if cuda else f"ROCm {rocm}" if rocm else "the CPU only"
    index = "https://pytorch.org/get-started/locally"
    if "nvml" in wanted and not cuda:
        fix = f"prompts on NVIDIA GPUs need a CUDA build of torch: see {index}"
        yield Check("torch", Verdict.WARN, f"torch is built for {name}, and there is an NVIDIA GPU", fix)
    elif "amdgpu" in wanted and not rocm:
        fix = f"prompts on AMD GPUs need a ROCm build of torch: see {index}"
        yield Check("torch", Verdict.WARN, f"torch is built for {name}, and there is an AMD GPU", fix)
    else:
        yield Check("torch", Verdict.OK, f"torch is built for {name}")


def _torch_builds() -> tuple[str | None, str | None] | None:
    """The CUDA and the ROCm version that torch was built for; None when that cannot be told."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        tree = ast.parse(Path(spec.origin).with_name("version.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None
    values = {name: value.value for name, value in _assignments(tree) if isinstance(value, ast.Constant)}
    cuda, rocm = values.get("cuda"), values.get("hip")
    return str(cuda) if cuda else None, str(rocm) if rocm else None


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr | None]]:
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node.value
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def _state(paths: Paths) -> Iterator[Check]:
    place = _existing(paths.state)
    if not os.access(place, os.W_OK | os.X_OK):
        fix = f"make {place} writable, or set XDG_STATE_HOME; until then there is no history"
        yield Check("history", Verdict.FAIL, f"{paths.state} cannot be written", fix)
        return
    free = shutil.disk_usage(place).free
    if free < _LITTLE_SPACE:
        words = f"only {bytes_text(free)} free for {paths.state}"
        yield Check("history", Verdict.WARN, words, "make room: a full disk stops the history")
    elif not paths.database.exists():
        yield Check("history", Verdict.OK, f"none yet; it will be in {paths.database}")
    elif problem := _why_not_readable(paths.database):
        yield Check("history", Verdict.FAIL, problem, f"move {paths.database} away to start a new history")
    else:
        size = bytes_text(paths.database.stat().st_size)
        yield Check("history", Verdict.OK, f"{paths.database}, {size}, {bytes_text(free)} free")


def _why_not_readable(path: Path) -> str:
    """What is wrong with the history in *path*; empty when it can be read."""
    try:
        with opened(path, read_only=True) as connection:
            check(connection, str(path))
    except (sqlite3.Error, HwdashError) as error:
        return sanitise_line(f"{path}: {error}")
    return ""


def _socket(paths: Paths) -> Iterator[Check]:
    folder = paths.socket.parent
    if not folder.exists():
        place = _existing(folder)
        if os.access(place, os.W_OK | os.X_OK):
            yield Check("socket", Verdict.OK, f"{paths.socket}, made when the daemon starts")
        else:
            yield Check("socket", Verdict.FAIL, f"{place} cannot be written", "set XDG_RUNTIME_DIR, or use --socket")
    elif problem := why_not_private(folder, folder.lstat(), os.getuid()):
        words, _, fix = problem.partition("; ")
        yield Check("socket", Verdict.FAIL, words, fix)
    else:
        yield Check("socket", Verdict.OK, str(paths.socket))


def _models(config: Config, paths: Paths) -> Iterator[Check]:
    store, wanted = ModelStore(paths.models), config.engine.model
    try:
        store.resolve(wanted)
    except HwdashError as error:
        words, _, fix = error.message.partition("; ")
        yield Check("model", Verdict.WARN, words, fix)
    else:
        yield Check("model", Verdict.OK, f"{wanted} is ready, of {len(store.list())} in {paths.models}")


def _precisions(paths: Paths, devices: Sequence[Device]) -> Iterator[Check]:
    """How fast each device was found to be in the precisions that it claims, as far as they were tried."""
    with contextlib.suppress(sqlite3.Error), opened(paths.database, read_only=True) as connection:
        trials = {(trial.device_key, trial.driver, trial.torch): trial for trial in read_trials(connection)}
        torch = installed_torch()
        for device in devices:
            if (trial := trials.get((device.key, device.driver or "", torch))) is not None:
                dtypes = [dtype for dtype in ITEM_BYTES if any(speed.dtype == dtype for speed in trial.speeds)]
                yield Check("precision", Verdict.OK, f"{device.name}: {dtype_words(dtypes, trial.speeds)}")


def _existing(path: Path) -> Path:
    """*path* or the nearest of its parents that exists."""
    return next(place for place in (path, *path.parents) if place.exists())
