"""``hwdash token`` as a script uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hwdash.cli.main import main
from hwdash.daemon.token import TokenFile, matching


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "hwdash" / "tokens.json"


def test_from_creation_to_the_end(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "list"]) == 0
    assert "hwdash token create" in capsys.readouterr().out
    assert main(["token", "create", "--name", "laptop"]) == 0
    made = capsys.readouterr()
    secret = made.out.removesuffix("\n")
    assert made.out.count("\n") == 1
    assert secret not in made.err
    assert matching(TokenFile(path).read(), secret)
    assert main(["token", "list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["tokens"]
    assert set(listed) == {"id", "name", "created_at"}
    assert listed["name"] == "laptop"
    assert main(["token", "list"]) == 0
    assert "laptop" in capsys.readouterr().out
    assert main(["token", "revoke", listed["id"]]) == 0
    assert capsys.readouterr().out == f"{listed['id']}: revoked\n"
    assert TokenFile(path).read() == ()
    assert main(["token", "revoke", listed["id"]]) == 2


def test_mistakes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "create", "--connect", "http://h:1"]) == 2
    assert "on the daemon's own machine" in capsys.readouterr().err
    assert main(["token", "create", "--name", "x" * 100]) == 2
    path.parent.mkdir(mode=0o700)
    path.write_text("oops")
    path.chmod(0o600)
    capsys.readouterr()
    for arguments in (["create"], ["list"], ["revoke", "x"]):
        assert main(["token", *arguments]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert "is no list of tokens" in said.err


def test_no_token_is_shown_that_would_not_be_believed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o777)
    assert main(["token", "create"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "chmod 700" in said.err
    assert list(path.parent.iterdir()) == []


def test_a_token_that_nobody_has_seen_is_taken_back(path: Path) -> None:
    program = "import sys; from hwdash.cli.main import main; sys.exit(main(['token', 'create']))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert "cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert TokenFile(path).read() == ()
