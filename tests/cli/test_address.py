"""Every command tells of an address in the configuration that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwdash.cli.main import main


@pytest.mark.parametrize("command", [["daemon"], ["devices"], ["daemon", "--listen", "127.0.0.1:0"]])
def test_every_command_tells_it(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[http]\nlisten = 'x'\n")
    assert main(["--config", str(file), *command]) == 2
    assert f"{file}:2: http.listen is no address, 'x'" in capsys.readouterr().err


def test_a_flag_that_is_none_is_told_by_its_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("")
    assert main(["--config", str(file), "daemon", "--listen", "x"]) == 2
    assert capsys.readouterr().err.startswith("hwdash: --listen is no address, 'x': write HOST:PORT")
