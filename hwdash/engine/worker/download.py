"""Fetches a model from the Hugging Face Hub; a program of its own, because its client library is large.

``python -m hwdash.engine.worker.download ORG/NAME DIRECTORY`` talks as `hwdash.engine.child.Child` reads it.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from hwdash.core.errors import HwdashError, ModelError
from hwdash.core.text import sanitise_line
from hwdash.engine.checkpoint import PICKLES
from hwdash.engine.disk import check_disk, size_of
from hwdash.engine.worker.lifeline import die_with_parent, say

_WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
_POLL_S = 0.3


def download(name: str, target: Path) -> None:
    """Fetch *name* into *target*. Raises `ModelError` and what the library raises."""
    from huggingface_hub import HfApi, snapshot_download

    about = HfApi().model_info(name, files_metadata=True)
    # Only files at the top: a model's subdirectories hold other formats of the same weights.
    sizes = {file.rfilename: file.size or 0 for file in about.siblings or () if _is_wanted(file.rfilename)}
    if not any(path.endswith(".safetensors") for path in sizes):
        pickles = any(fnmatch.fnmatch(file.rfilename, kind) for file in about.siblings or () for kind in PICKLES)
        reason = "as pickles only, which can run code when they are loaded" if pickles else "in no format it can load"
        raise ModelError(f"the Hub has its weights {reason}; choose a safetensors version of the model")
    total = sum(sizes.values())
    check_disk(target.parent, total, name)
    license_name = sanitise_line(str((about.card_data or {}).get("license", "")), 100)
    say({"facts": {"revision": about.sha or "", "license": license_name}})
    with _reporting(target, total):
        snapshot_download(name, revision=about.sha, local_dir=target, allow_patterns=list(sizes))
    shutil.rmtree(target / ".cache", ignore_errors=True)


def _is_wanted(path: str) -> bool:
    return "/" not in path and any(fnmatch.fnmatch(path, pattern) for pattern in _WANTED)


@contextlib.contextmanager
def _reporting(target: Path, total: int) -> Iterator[None]:
    done = threading.Event()

    def report() -> None:
        while not done.wait(_POLL_S):
            share = min(1.0, size_of(target) / max(1, total))
            say({"step": "downloading", "from": share, "to": share})

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _explanation(error: Exception) -> str:
    """Why the Hub gave nothing, in one line."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, HwdashError):
        return error.message
    if isinstance(error, GatedRepoError):
        return "it asks for permission first; accept its terms on the Hub and set HF_TOKEN"
    if isinstance(error, RepositoryNotFoundError):
        return "the Hub has no such model, or it is private; check the name, or set HF_TOKEN"
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    return f"{endpoint}: {sanitise_line(str(error), 160) or type(error).__name__}; check the network"


def main() -> int:
    """Run as a program; the exit code is 1 when nothing was fetched."""
    die_with_parent()
    try:
        download(sys.argv[1], Path(sys.argv[2]))
    except Exception as error:  # noqa: BLE001 - the caller gets it in words
        say({"error": _explanation(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
