"""Addresses to listen at: what is one, and where a setting that is none is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.address import Address, address_problem, parse_address
from hwdash.core.config import Config, override_from_environment, parse_config
from hwdash.core.errors import UsageError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:80", "127.0.0.1", 80), ("[::1]:0", "::1", 0), ("gpu-box.lan:65535", "gpu-box.lan", 65535)],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert parse_address(text) == Address(host, port)
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text", ["", ":80", "80", "host", "host:", "::1:80", "[::1]", "h:65536", "h:-1", "http://h:1", "a b:1"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="write HOST:PORT"):
        parse_address(text)


@given(st.text())
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    try:
        address = parse_address(text)
    except UsageError:
        return
    assert parse_address(str(address)) == address


@pytest.mark.parametrize("value", ["x", "", "127.0.0.1", "h:65536", "x" * 5000, "a\u0663:1", "h:\u0663"])
def test_a_setting_that_is_no_address_is_told_with_its_place(value: str) -> None:
    assert address_problem(value)
    with pytest.raises(UsageError, match=r"^c\.toml:2: http\.listen is no address.*write HOST:PORT") as caught:
        parse_config(f'[http]\nlisten = "{value}"\n', "c.toml")
    assert len(caught.value.message) < 250
    with pytest.raises(UsageError, match=r"^environment variable HWDASH_HTTP__LISTEN: http\.listen is no address"):
        override_from_environment(Config(), {"HWDASH_HTTP__LISTEN": value})
    assert parse_config('[http]\nlisten = "127.0.0.1:0"\n', "c.toml").http.listen == "127.0.0.1:0"
