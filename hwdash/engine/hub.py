"""Fetching a model from the Hugging Face Hub, in a child process that has the client library."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from hwdash.core.model import PullProgress
from hwdash.engine.checkpoint import read_checkpoint
from hwdash.engine.child import Child, child_command, child_environment
from hwdash.engine.manifest import write_manifest

_DOWNLOADED = 0.95


async def pull_from_hub(name: str, work: Path) -> AsyncGenerator[PullProgress, None]:
    """Fetch the Hub's *name* into ``model`` below *work*: safetensors, configuration and tokenizer, nothing that runs.

    Raises `ModelError` when the Hub cannot be reached or has no such model, or it has pickles only.
    """
    target = work / "model"
    yield PullProgress("asking the Hub", 0.0)
    # The library caches beside the files by default, where a kill would leave it; everything goes below *work*.
    environment = child_environment({"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(work / "hub")})
    async with Child(child_command("hwdash.engine.worker.download", name, str(target)), environment, work) as child:
        async for step, share in child.progress():
            yield PullProgress(step, _DOWNLOADED * share)
        await child.succeeded(f"cannot fetch {name}")
    yield PullProgress("verifying", _DOWNLOADED)
    await asyncio.to_thread(_seal, name, target, child.facts)


def _seal(name: str, target: Path, facts: dict[str, str]) -> None:
    read_checkpoint(target)
    write_manifest(target, name, f"hub:{name}", facts.get("license", ""), facts.get("revision", ""))
