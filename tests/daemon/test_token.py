"""Tokens: what is kept of them, whom the file is believed, and that nothing gets lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.errors import UsageError
from hwdash.daemon.token import MAX_NAME, PREFIX, TokenFile, TokenFileError, digest, matching


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "state" / "tokens.json")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tokens.json"


def test_a_token_is_known_until_it_is_revoked_and_stands_nowhere(file: TokenFile, path: Path) -> None:
    secret, token = file.create("laptop")
    assert secret.startswith(PREFIX)
    assert len(secret) >= len(PREFIX) + 43  # 256 bits in base64
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert all(secret not in each.read_text() for each in path.parent.iterdir())
    other, _ = file.create()
    reader = TokenFile(path)
    assert matching(reader.read(), secret) == token
    assert matching(reader.read(), secret[:-1]) is None
    assert matching(reader.read(), token.sha256) is None
    assert file.revoke(token.id) == token
    assert matching(reader.read(), secret) is None
    assert matching(reader.read(), other) is not None


def test_a_leaked_token_can_be_revoked_by_itself(file: TokenFile) -> None:
    secret, token = file.create()
    assert file.revoke(secret) == token
    with pytest.raises(UsageError, match="no token of this machine") as caught:
        file.revoke(secret)
    assert secret not in caught.value.message
    with pytest.raises(UsageError, match="no token 'x'"):
        file.revoke("x")


@given(st.text())
def test_what_was_not_given_out_is_not_known(text: str) -> None:
    assert matching((), text) is None
    assert len(digest(text)) == 64


@pytest.mark.parametrize("name", ["a" * (MAX_NAME + 1), "a\x1b[31m", "a\nb", " a"])
def test_names_that_are_refused(file: TokenFile, name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        file.create(name)
    assert file.read() == ()


def _open_to_others(path: Path) -> None:
    path.chmod(0o640)


def _replaceable(path: Path) -> None:
    path.parent.chmod(0o770)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


def _content(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_open_to_others, "open to others"),
        (_replaceable, "others may replace it"),
        (_link, "cannot be read"),
        (_fifo, "no regular file"),
        (_directory, "no regular file"),
        (_content(b""), "is empty"),
        (_content(b"{"), "no list of tokens"),
        (_content(b'{"tokens": [{"id": "a"}], "version": 1}'), "no list of tokens"),
        (_content(b"\xff" * 10), "no list of tokens"),
        (_content(b'{"tokens": [], "version": 2}'), "version 2"),
        (_content(b" " * (2 << 20)), "larger than 1 MiB"),
    ],
)
def test_a_file_that_cannot_be_trusted_lets_nobody_in(
    file: TokenFile, path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    secret, _ = file.create()
    assert matching(file.read(), secret)
    spoil(path)
    for act in (file.read, file.create, lambda: file.revoke("x")):
        with pytest.raises(TokenFileError, match=words) as caught:
            act()
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_no_token_is_put_where_others_may_replace_it(file: TokenFile, path: Path, mode: int) -> None:
    path.parent.mkdir()
    path.parent.chmod(mode)
    for act in (file.create, lambda: file.revoke("x")):
        with pytest.raises(TokenFileError, match=r"others may replace it.*chmod 700"):
            act()
    assert list(path.parent.iterdir()) == []
    path.parent.chmod(0o755)
    secret, _ = file.create()
    assert matching(file.read(), secret)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_not_believed(file: TokenFile, path: Path) -> None:
    file.create()
    os.chown(path, 12345, -1)
    with pytest.raises(TokenFileError, match="belongs to user 12345"):
        file.read()


def test_tokens_made_at_the_same_time_are_all_kept(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        secrets = list(pool.map(lambda number: TokenFile(path).create(str(number))[0], range(24)))
    tokens = TokenFile(path).read()
    assert {token.name for token in tokens} == {str(number) for number in range(24)}
    assert all(matching(tokens, secret) for secret in secrets)
    assert {each.name for each in path.parent.iterdir()} == {"tokens.json", "tokens.lock"}


def test_processes_do_not_lose_each_others_tokens(path: Path) -> None:
    script = "import sys; from pathlib import Path; from hwdash.daemon.token import TokenFile as T\n"
    script += "for _ in range(5): T(Path(sys.argv[1])).create()"
    started = [subprocess.Popen([sys.executable, "-c", script, str(path)]) for _ in range(3)]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    assert len(TokenFile(path).read()) == 15
