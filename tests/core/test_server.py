"""External servers in the configuration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.config import parse_config
from hwdash.core.errors import ServerDown, UsageError
from hwdash.core.server import (
    MAX_SERVERS,
    ServerConfig,
    server_key,
    server_label,
    server_token,
    server_url_problem,
    status_problem,
    unbound_servers,
)
from hwdash.sources.fake import fake_gpu


def servers(text: str) -> tuple[ServerConfig, ...]:
    return parse_config(text, "config.toml").engine.servers


def test_all_settings_and_the_defaults() -> None:
    assert servers(
        """
[[engine.servers]]
name = "vllm"
url = "http://127.0.0.1:8000/v1/"
device = "gpu0"
model = "llama"
token_variable = "VLLM_TOKEN"
slots = 16

[[engine.servers]]
name = "ollama"
url = "https://[::1]:11434/v1"
"""
    ) == (
        ServerConfig("vllm", "http://127.0.0.1:8000/v1", "gpu0", "llama", "VLLM_TOKEN", 16),
        ServerConfig("ollama", "https://[::1]:11434/v1"),
    )
    assert servers("") == ()


@pytest.mark.parametrize(
    ("lines", "place", "words"),
    [
        ('name = "a"', 1, "engine.servers.url is missing"),
        ('url = "http://a"', 1, "engine.servers.name is missing"),
        ('name = ""\nurl = "http://a"', 2, "1 to 40 letters"),
        ('name = "a b"\nurl = "http://a"', 2, "1 to 40 letters"),
        ('name = 3\nurl = "http://a"', 2, "must be a string, not 3"),
        ('name = "a"\nurl = "ftp://a"', 3, "http(s)://HOST"),
        ('name = "a"\nurl = 7', 3, "must be a string, not 7"),
        ('name = "a"\nurl = "http://u:p@a"', 3, "token_variable"),
        ('name = "a"\nurl = "http://a"\nslots = 0', 4, "1 to 1024"),
        ('name = "a"\nurl = "http://a"\nslots = true', 4, "1 to 1024"),
        ('name = "a"\nurl = "http://a"\ntoken_variable = "a b"', 4, "environment variable"),
        ('name = "a"\nurl = "http://a"\nmodel = "a\\u001b"', 4, "one line"),
        ('name = "a"\nurl = "http://a"\ndevice = ""', 4, "id or key"),
        ('name = "a"\nurl = "http://a"\ntoken = "x"', 4, "unknown key engine.servers.token; there are: name, url"),
        ('name = "a"\nurl = "http://a"\n[[engine.servers]]\nname = "a"\nurl = "http://b"', 5, "name of another"),
    ],
)
def test_mistakes_are_told_with_their_place(lines: str, place: int, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        servers(f"[[engine.servers]]\n{lines}\n")
    assert words in caught.value.message
    assert caught.value.message.startswith(f"config.toml:{place}: ")


def test_it_is_a_list_of_tables_and_not_too_long() -> None:
    with pytest.raises(UsageError, match=r"must be tables, each begun with \[\[engine.servers\]\]"):
        servers('[engine]\nservers = ["a"]\n')
    one = '[[engine.servers]]\nname = "s{0}"\nurl = "http://a"\n'
    with pytest.raises(UsageError, match=f"there are {MAX_SERVERS + 1}"):
        servers("".join(one.format(number) for number in range(MAX_SERVERS + 1)))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a",
        "http://",
        "http:///v1",
        "http://a:0",
        "http://a:99999",
        "http://a:b",
        "http://[::1",
        "http://a/?q=1",
        "http://a/#f",
        "http://a b",
        "http://a\n",
        "http://ä",
        "file:///etc/passwd",
        "http://u@a",
    ],
)
def test_what_is_no_url_of_a_server(url: str) -> None:
    assert server_url_problem(url)


@given(st.text())
def test_any_text_is_a_url_or_told_to_be_none(text: str) -> None:
    server_url_problem(text)


def test_tokens_come_from_the_environment() -> None:
    named = ServerConfig("a", "http://a", token_variable="T")
    assert server_token(named, {"T": " x\n"}) == "x"
    assert server_token(named, {}) == ""
    assert server_token(ServerConfig("a", "http://a"), {"": "y"}) == ""
    for token in ("two words", "b\u00e4d", "new\nline"):
        with pytest.raises(ServerDown, match="in T must be ASCII") as caught:
            server_token(named, {"T": token})
        assert token not in caught.value.message


def test_a_server_for_a_device_that_is_not_there_is_told() -> None:
    devices = [fake_gpu(id="gpu0")]
    bound = [ServerConfig(str(name), "http://a", device=name) for name in (devices[0].id, devices[0].key, None)]
    assert list(unbound_servers(bound, devices)) == []
    (words,) = unbound_servers([*bound, ServerConfig("lone", "http://b", device="gpu7")], devices)
    assert words.startswith("lone at http://b answers for no device: there is no gpu7; correct device")


def test_names_of_a_server() -> None:
    assert server_label(ServerConfig("a", "http://b")) == "a at http://b"
    assert server_label(ServerConfig("", "http://b")) == "http://b"
    assert server_key(ServerConfig("a", "http://b")) == "server:a"
    assert "http" not in repr(ServerConfig("a", "http://b"))


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500, 501])
def test_what_answers_is_there(status: int) -> None:
    assert not status_problem(status)


@pytest.mark.parametrize("status", [301, 307, 502, 503, 504])
def test_what_is_in_the_way(status: int) -> None:
    assert str(status) in status_problem(status)
