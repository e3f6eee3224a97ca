"""Commands over a client of the test's choice, in places of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.world import World

Serve = Callable[[World], World]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Serve:
    """Have every command talk to the client that is given."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))

    def connect(client: World) -> World:
        monkeypatch.setattr("hwdash.cli.settings.connect", lambda *_, **__: client)
        return client

    return connect
