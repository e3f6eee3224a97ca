"""Keys of a TOML text are found in the lines in which they stand."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdash.core.tomlline import KeyPath, key_lines, line_of

TEXT = """\
# a comment = 1
a = 1
b.c = "x # y" # z
'd.e' = { f = 1, "g" = [2,
  { h = 3 }] }
text = '''
not = 1
[nor]
'''
more = \"\"\"a \\\"\"\"\" b
k = 2\"\"\"
[t.u]
v = 1
[[list]]
w = 1
[list.inner]
x = 1
[[list]]
w = [
  1, # one
  2,
]
["q\\u0041"]
r = 1
"""


def test_known_text() -> None:
    lines = key_lines(TEXT)
    wanted: dict[KeyPath, int] = {
        ("a",): 2,
        ("b", "c"): 3,
        ("d.e",): 4,
        ("d.e", "f"): 4,
        ("d.e", "g"): 4,
        ("d.e", "g", 1, "h"): 5,
        ("text",): 6,
        ("more",): 10,
        ("t", "u"): 12,
        ("t", "u", "v"): 13,
        ("list", 0): 14,
        ("list", 0, "w"): 15,
        ("list", 0, "inner", "x"): 17,
        ("list", 1): 18,
        ("list", 1, "w", 1): 21,
        ("qA", "r"): 24,
    }
    assert {path: lines.get(path) for path in wanted} == wanted
    assert not any(path[0] in ("not", "nor", "k") for path in lines)


def test_the_nearest_place_is_taken_for_what_has_none() -> None:
    lines = key_lines("a = 1\n[b]\nc = 1\n")
    assert line_of(lines, ("b", "missing")) == 2
    assert line_of(lines, ("missing",)) == 1


CONFIG = '''title = "x"
words = """
[monitor]
interval_s = 9
"""
[monitor]  # how
interval_s = 1
"deadline_s" = 2

  [[alerts.rules]]
  name = "a"
[[alerts.rules]]
name = "b"
devices = [
  "name = 3",
]
[alerts.rules.more]
depth.er = 1
[ engine . "odd.key" ]
x = 1
alerts = 3
[inline]
rules = [{name = "c"},
  {name = "d"}]
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 1),
        (("monitor",), 6),
        (("monitor", "interval_s"), 7),
        (("monitor", "deadline_s"), 8),
        (("monitor", "unknown"), 6),
        (("alerts", "rules"), 10),
        (("alerts",), 10),
        (("alerts", "rules", 0), 10),
        (("alerts", "rules", 0, "name"), 11),
        (("alerts", "rules", 1), 12),
        (("alerts", "rules", 1, "name"), 13),
        (("alerts", "rules", 1, "devices", 0), 15),
        (("alerts", "rules", 1, "more", "depth", "er"), 18),
        (("alerts", "rules", 0, "unknown"), 10),
        (("inline", "rules", 1, "name"), 24),
        (("nothing",), 1),
    ],
)
def test_keys_of_a_configuration_have_their_lines(path: KeyPath, line: int) -> None:
    assert line_of(key_lines(CONFIG), path) == line


KEYS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=6)
STRINGS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[KeyPath, int]]:
    """A TOML text, and the line of every key in it."""
    out: list[str] = []
    lines: dict[KeyPath, int] = {}

    def value(path: KeyPath, depth: int) -> None:
        kind = draw(st.sampled_from(["number", "string", "long"] + (["array", "table"] if depth < 3 else [])))
        if kind == "number":
            out.append(draw(st.sampled_from(["1", "-2.5", "true", "1979-05-27T07:32:00Z", "0x1f"])))
        elif kind == "string":
            out.append(quoted(draw(STRINGS)))
        elif kind == "long":
            out.append("'''a\n= b [c] # d'''")
        elif kind == "array":
            out.append("[")
            for index in range(draw(st.integers(0, 3))):
                out.append(draw(st.sampled_from(["", "\n", " # ]}\n"])))
                lines[(*path, index)] = "".join(out).count("\n") + 1
                value((*path, index), depth + 1)
                out.append(draw(st.sampled_from([",", " ,\n"])))
            out.append("]")
        else:
            out.append("{ ")
            for number, key in enumerate(draw(st.lists(KEYS, max_size=3, unique=True))):
                out.append(", " if number else "")
                pair((*path, key), key, depth + 1)
            out.append(" }")

    def pair(path: KeyPath, key: str, depth: int) -> None:
        lines[path] = "".join(out).count("\n") + 1
        out.append(f"{quoted(key)} = ")
        value(path, depth)

    for name in draw(st.lists(KEYS, max_size=4, unique=True)):
        many = draw(st.booleans())
        for index in range(draw(st.integers(1, 2)) if many else 1):
            table: KeyPath = (name, index) if many else (name,)
            out.append(draw(st.sampled_from(["", "\n", "# [x]\n"])))
            lines[table] = "".join(out).count("\n") + 1
            out.append(f"[[ {quoted(name)} ]]\n" if many else f"[{quoted(name)}]\n")
            for key in draw(st.lists(KEYS, max_size=3, unique=True)):
                pair((*table, key), key, 0)
                out.append("\n")
    return "".join(out), lines


@given(documents())
def test_every_key_has_its_line(document: tuple[str, dict[KeyPath, int]]) -> None:
    text, wanted = document
    tomllib.loads(text)
    lines = key_lines(text)
    assert {path: lines.get(path) for path in wanted} == wanted


@given(st.text(st.sampled_from("ab.=[]{}\"'\\#, \n1u"), max_size=60))
def test_any_text_ends(text: str) -> None:
    lines = key_lines(text)
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert {path[0] for path in lines} == set(data)
