"""Files lie where the contract says."""

from __future__ import annotations

import os
from pathlib import Path

from hwdash.core.paths import paths_from, why_not_own_socket, why_not_private


def test_xdg_variables_are_followed() -> None:
    paths = paths_from({"HOME": "/h", "XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/r", "XDG_CACHE_HOME": "relative"})
    assert paths.socket == Path("/r/hwdash/hwdash.sock")
    assert paths.database == Path("/s/hwdash/hwdash.db")
    assert paths.log == Path("/s/hwdash/daemon.log")
    assert paths.models == Path("/h/.cache/hwdash/models")


def test_without_a_runtime_directory_the_socket_has_a_private_place() -> None:
    assert f"hwdash-{os.getuid()}" in str(paths_from({"HOME": "/h"}).socket)


def test_only_an_own_closed_directory_is_private(tmp_path: Path) -> None:
    uid = os.getuid()
    tmp_path.chmod(0o700)
    assert why_not_private(tmp_path, tmp_path.lstat(), uid) is None
    assert "belongs to" in str(why_not_private(tmp_path, tmp_path.lstat(), uid + 1))
    tmp_path.chmod(0o755)
    assert "of your own" in str(why_not_private(tmp_path, tmp_path.lstat(), uid))
    own = tmp_path / "hwdash"
    own.mkdir(mode=0o755)
    own.chmod(0o755)
    assert f"chmod 700 {own}" in str(why_not_private(own, own.lstat(), uid))
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert "symbolic link" in str(why_not_private(link, link.lstat(), uid))
    file = tmp_path / "file"
    file.touch()
    assert "not a directory" in str(why_not_private(file, file.lstat(), uid))
    assert "not a socket" in str(why_not_own_socket(file, file.lstat(), uid))
