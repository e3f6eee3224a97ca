"""Which addresses can be asked."""

from __future__ import annotations

import http.client

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hwdash.core.rule import webhook_problem
from hwdash.core.server import server_url_problem
from hwdash.core.url import BadUrl, base_url_problem, parse_url

BAD_HOSTS = [
    "256.1.1.1",
    "1.2.3",
    "1.2.3.4.5",
    "01.2.3.4",
    "1.2.3.4.",
    "999999999999",
    "[v1.a]",
    "[1.2.3.4]",
    "[::1",
    "[::1]x",
    "[fe80::1%25eth0]",
    "xn--",
    "xn--zzzzzzz99999",
    "a..b",
    ".a",
    "a%20b",
    "a\\b",
    "a" * 64 + ".com",
    "a." * 130 + "b",
]
GOOD_HOSTS = [
    "a",
    "A.Example.COM",
    "a_b",
    "gpu-1.lan.",
    "127.0.0.1",
    "[::1]",
    "[2001:DB8::1]",
    "[::ffff:1.2.3.4]",
    "xn--bcher-kva.de",
    "1a",
]


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_a_host_that_cannot_be_asked_is_told(host: str) -> None:
    with pytest.raises(BadUrl, match="host"):
        parse_url(f"http://{host}/v1")
    for problem in (server_url_problem, base_url_problem, webhook_problem):
        assert "its host" in problem(f"https://{host}/v1")


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_a_host_that_can_be_asked(host: str) -> None:
    for problem in (server_url_problem, base_url_problem, webhook_problem):
        assert problem(f"https://{host}/v1") == ""
        assert problem(f"https://{host}:8000/v1") == ""


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://a:0", "port from 1 to 65535"),
        ("http://a:70000", "host or port"),
        ("http://a/" + "b" * 2000, "at most 2000 characters"),
        ("http://a b", "blanks"),
        ("ftp://a", "with a host"),
        ("http://u:secret@a", "no password"),
        ("http://@a", "no password"),
        ("http://a?secret", "no query"),
    ],
)
def test_what_else_is_wrong_with_the_base_of_a_server(url: str, words: str) -> None:
    assert words in base_url_problem(url)
    assert "secret" not in base_url_problem(url)


@given(st.text("aAx-n1.:[]%@/\\_9", max_size=20))
@example("xn--a")
@example("[::1]:")
def test_what_passes_is_understood_by_those_who_ask(place: str) -> None:
    url = f"http://{place}"
    if base_url_problem(url):
        return
    parts = parse_url(url)
    asked = httpx.Request("HEAD", url + "/models").url
    assert asked.host.lower() == (parts.hostname or "").encode().decode("idna")
    assert asked.port == (None if parts.port == 80 else parts.port)
    http.client.HTTPConnection(parts.hostname or "", parts.port or 80)
