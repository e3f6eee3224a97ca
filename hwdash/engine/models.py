"""The models on this machine: found, fetched, checked, removed."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from hwdash.core.errors import ModelError, UnknownModel
from hwdash.core.model import SYNTHETIC, SYNTHETIC_SHAPES, ModelInfo, ModelShape, PullProgress, is_synthetic
from hwdash.core.text import sanitise_line
from hwdash.engine.catalogue import CATALOGUE, catalogue_shape
from hwdash.engine.checkpoint import read_checkpoint
from hwdash.engine.disk import size_of
from hwdash.engine.manifest import check_sizes, read_manifest
from hwdash.engine.pull import pull_model
from hwdash.engine.shape import Shapes
from hwdash.engine.synthetic import config_path, resolve_synthetic, synthetic_shape

_HUB_PART = r"[A-Za-z0-9](?:[A-Za-z0-9_]|[.-](?![.-])){0,95}"
_HUB_NAME = re.compile(rf"{_HUB_PART}/{_HUB_PART}")
_SEPARATOR = "--"


class ModelStore:
    """Models below one directory, each in a directory of its own with a manifest. All but `pull` block on the disk.

    A name is one of the catalogue (``smollm2-135m-instruct``), a Hugging Face Hub id (``org/name``), the absolute path
    of a checkpoint directory, which is used where it lies, or ``synthetic:`` with a shape (`hwdash.engine.synthetic`).
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._shapes = Shapes()

    def list(self) -> tuple[ModelInfo, ...]:
        """Every model of the store, by name; unfinished or damaged ones are not ``ready``."""
        if not self._root.is_dir():
            return ()
        found = (self._info(path) for path in self._root.iterdir() if path.is_dir() and not path.name.startswith("."))
        return tuple(sorted(found, key=lambda info: info.name))

    @staticmethod
    def is_synthetic(name: str) -> bool:
        """Whether *name* has a configuration only, and weights that are drawn when it is loaded."""
        return is_synthetic(name)

    def resolve(self, name: str) -> Path:
        """The checkpoint directory of *name*, after its manifest, sizes and headers were checked.

        Of a synthetic model it is the file with its configuration. Raises `UnknownModel` where there is none and
        `ModelError`, naming the file, where it is damaged or unsafe.
        """
        if is_synthetic(name):
            return resolve_synthetic(name)
        if name.startswith("/"):
            if not (path := Path(name)).is_dir():
                raise UnknownModel(f"there is no model directory {sanitise_line(name)}", param="model")
            return read_checkpoint(path).directory
        path = self._place(name)
        if not path.is_dir():
            raise UnknownModel(
                f"model {name!r} is not on this machine; fetch it with: hwdash models pull {name}", param="model"
            )
        advice = f"fetch it again: hwdash models remove {name} && hwdash models pull {name}"
        if (manifest := read_manifest(path)) is None:
            raise ModelError(f"{path} was not fetched completely; {advice}")
        check_sizes(path, manifest, advice)
        return read_checkpoint(path, advice).directory

    def shape(self, name: str) -> ModelShape | None:
        """What *name* needs, by the metadata of its checkpoint; None where it is not here or does not tell.

        One of the catalogue has a shape before it is fetched. Asked again it costs a look at the files' times.
        """
        if name.startswith("/"):
            return self._shapes.of(Path(name))
        try:
            if is_synthetic(name):
                return self._shapes.of(config_path(name), synthetic_shape)
            place = self._place(name)
        except UnknownModel:
            return None
        return self._shapes.of(place) or catalogue_shape(name)

    async def pull(self, name: str) -> AsyncGenerator[PullProgress, None]:
        """Fetch *name* from where it comes from; the last event carries the model. Nothing stays behind on failure.

        A synthetic model is there at once: there is nothing to fetch.

        Raises `UnknownModel` for what cannot be fetched and `ModelError` for what fails on the way.
        """
        if is_synthetic(name):
            path = await asyncio.to_thread(self.resolve, name)
            yield PullProgress("done", 1.0, ModelInfo(name, str(path), 0, ready=True, source="synthetic"))
            return
        place = self._place(name)
        info: ModelInfo | None = self._info(place) if place.is_dir() else None
        if info is None or not info.ready:
            async with aclosing(pull_model(name, self._root, place.name)) as steps:
                async for step in steps:
                    yield step
            info = self._info(place)
        yield PullProgress("done", 1.0, info)

    def remove(self, name: str) -> None:
        """Delete *name* from the store. Raises `UnknownModel`, and `ModelError` for what is not the store's."""
        if is_synthetic(name):
            raise ModelError(f"{sanitise_line(name, 100)} keeps nothing on this machine: there is nothing to remove")
        if name.startswith("/"):
            raise ModelError(f"{sanitise_line(name)} is not in the model store; remove the directory yourself")
        path = self._place(name)
        if path.is_symlink() or not path.is_dir():
            raise UnknownModel(f"model {name!r} is not on this machine", param="model")
        try:
            # Out of the way in one step first: a half-deleted model must not look like a model.
            away = Path(tempfile.mkdtemp(prefix=f".remove-{path.name}-", dir=self._root))
            path.rename(away / path.name)
            shutil.rmtree(away)
        except OSError as error:
            raise ModelError(f"cannot remove {path}: {error.strerror}") from error

    def _place(self, name: str) -> Path:
        """Where *name* lies or would lie. Raises `UnknownModel` for a name that can be no model of the store."""
        if name in CATALOGUE:
            return self._root / name
        if _HUB_NAME.fullmatch(name) and _SEPARATOR not in name:
            return self._root / name.replace("/", _SEPARATOR)
        raise UnknownModel(
            f"there is no model {sanitise_line(name, 100)!r}; give {', '.join(CATALOGUE)}, a Hugging Face Hub id "
            "(org/name), the absolute path of a checkpoint directory, or synthetic: with a shape, such as "
            f"{SYNTHETIC}{SYNTHETIC_SHAPES[0]}",
            param="model",
        )

    def _info(self, path: Path) -> ModelInfo:
        manifest = read_manifest(path)
        if manifest is None:
            return ModelInfo(path.name.replace(_SEPARATOR, "/"), str(path), size_of(path), ready=False)
        try:
            check_sizes(path, manifest, "")
        except ModelError:
            ready = False
        else:
            ready = True
        return ModelInfo(manifest.name, str(path), manifest.size_bytes, ready, manifest.source, manifest.license)
