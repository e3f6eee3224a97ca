"""Which daemons keep a spare worker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hwdash.core.config import Config, EngineConfig
from hwdash.core.paths import paths_from
from hwdash.daemon.compose import compose
from hwdash.daemon.parts import Parts
from hwdash.daemon.service import Identity


@pytest.mark.parametrize(("owned", "wanted", "kept"), [(False, True, True), (True, True, False), (False, False, False)])
async def test_one_that_no_command_owns_keeps_a_spare_unless_told_not_to(
    owned: bool, wanted: bool, kept: bool, tmp_path: Path
) -> None:
    paths = paths_from({"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")})
    paths.state.mkdir(parents=True)
    config = Config(engine=EngineConfig(spare=wanted))
    service = await compose(config, paths, Identity("/s", owned=owned), Parts(sources=()))
    try:
        assert ("spare worker" in {task.get_name() for task in asyncio.all_tasks()}) is kept
    finally:
        await service.close()
    assert "spare worker" not in {task.get_name() for task in asyncio.all_tasks()}
