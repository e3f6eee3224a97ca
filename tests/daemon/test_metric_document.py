"""What is written about the metrics (the page, its queries and alerts, the dashboard) names only what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hwdash.daemon.metric_family import FAMILIES, FamilyKind

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "metrics.md").read_text()
BOARD: dict[str, Any] = json.loads((DOCS / "grafana" / "hwdash.json").read_text())

FROM_PROMETHEUS = {"instance", "job", "le"}
"""The labels that Prometheus itself gives a series."""
WORDS = {"sum", "rate", "increase", "histogram_quantile", "bottomk", "by", "on", "group_left", "and"}
SERIES = {
    f"{family.name}{suffix}": family
    for family in FAMILIES.values()
    for suffix in (("_bucket", "_sum", "_count") if family.kind is FamilyKind.HISTOGRAM else ("",))
}
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^{}]*)\}")
GROUPING = re.compile(r"\b(?:by|on|group_left)\s*\(([^)]*)\)")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"(?:[^"\\]|\\.)*"')


def panels() -> Iterator[dict[str, Any]]:
    for panel in BOARD["panels"]:
        yield panel
        yield from panel.get("panels", ())


def board_queries() -> list[str]:
    """All queries of the dashboard, those of its variables included."""
    queries = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    variables = [item["query"]["query"] for item in BOARD["templating"]["list"] if item["type"] == "query"]
    queries += [text.removeprefix("query_result(").removesuffix(")") for text in variables if "query_result" in text]
    return queries


def page_queries() -> list[str]:
    block = PAGE.partition("```promql\n")[2].partition("```")[0]
    return [query.strip() for query in re.sub(r"^#.*$", "", block, flags=re.MULTILINE).split("\n\n") if query.strip()]


def page_rules() -> str:
    return PAGE.partition("## Alert rules\n\n```yaml\n")[2].partition("```")[0]


def rule_queries() -> list[str]:
    found = re.findall(r"expr: (?:>\n((?: {10}.*\n)+)|(.*)\n)", page_rules())
    return [folded or line for folded, line in found]


QUERIES = [*board_queries(), *page_queries(), *rule_queries()]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_only_series_and_labels_that_there_are(query: str) -> None:
    labels = set(FROM_PROMETHEUS)
    for name in re.findall(r"\bhwdash_\w+", query):
        labels |= set(SERIES[name].labels)
    for name, matchers in SELECTOR.findall(query):
        pairs = MATCHER.findall(matchers)
        assert len(pairs) == matchers.count('"') // 2
        assert set(pairs) <= set(SERIES[name].labels) | FROM_PROMETHEUS
    for grouping in GROUPING.findall(query):
        assert {name.strip() for name in grouping.split(",")} <= labels
    rest = GROUPING.sub(" ", re.sub(r"\{[^{}]*\}|\[[^]]*\]", " ", query))
    assert set(re.findall(r"\b[a-zA-Z_]\w*", rest)) <= WORDS | set(SERIES)


def test_the_legends_of_the_dashboard_use_labels_that_there_are() -> None:
    known = {label for family in FAMILIES.values() for label in family.labels}
    for panel in panels():
        for target in panel.get("targets", ()):
            used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert used <= known
            given = {label for name in re.findall(r"\bhwdash_\w+", target["expr"]) for label in SERIES[name].labels}
            assert used <= given, target["expr"]


def test_the_dashboard_reaches_grafana_through_its_variables_only() -> None:
    names = {variable["name"] for variable in BOARD["templating"]["list"]}
    assert names == {"datasource", "instance", "device", "policy"}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(BOARD))) <= names | {"__rate_interval", "__all"}
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels() if panel["type"] != "row")
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not taken & cells
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_the_page_has_every_metric_as_it_is() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.splitlines()
        if line.startswith("| `hwdash_")
    ]
    written = {row[0].strip("`"): row[1:] for row in rows}
    assert len(rows) == len(written)
    assert written == {
        family.name: [
            family.kind.value,
            family.unit or "–",
            ", ".join(f"`{label}`" for label in family.labels),
            family.words,
        ]
        for family in FAMILIES.values()
    }


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_understands_the_alert_rules_and_every_query(tmp_path: Path) -> None:
    rules = tmp_path / "alerts.yml"
    rules.write_text(page_rules())
    queries = tmp_path / "queries.yml"
    records = [
        {"record": f"query:{number}", "expr": re.sub(r"\$(__rate_interval|\w+)", "5m", query)}
        for number, query in enumerate([*board_queries(), *page_queries()])
    ]
    queries.write_text(json.dumps({"groups": [{"name": "queries", "rules": records}]}))
    done = subprocess.run(["promtool", "check", "rules", rules, queries], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
