from __future__ import annotations

import pytest

from hwdash.core.tomlline import Path, line_of

TEXT = '''title = "x"
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
        (("alerts", "rules", 1, "devices", 0), 14),
        (("alerts", "rules", 1, "more", "depth", "er"), 18),
        (("alerts", "rules", 0, "unknown"), 10),
        (("inline", "rules", 1, "name"), 23),
        (("nothing",), 1),
    ],
)
def test_a_key_has_its_line(path: Path, line: int) -> None:
    assert line_of(TEXT, path) == line
