from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hwdash.cli.history_metric import metric_csv, metric_text
from hwdash.cli.main import main
from hwdash.client.fake import FakeClient
from hwdash.core.history import MetricBucket, MetricHistory, MetricSeries
from hwdash.core.reading import Absent
from hwdash.core.snapshot import Snapshot

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
BUCKET = MetricBucket(NOW - timedelta(minutes=1), 60, 81.0, 350.5, 700.25)
SERIES = (
    MetricSeries("gpu0", "fake:gpu-0", (BUCKET,), BUCKET),
    MetricSeries("cpu0", "cpu:x", (), None, Absent.NO_PERMISSION),
)
HISTORY = MetricHistory("power_w", NOW - timedelta(hours=1), NOW, 60.0, SERIES)


def test_a_line_per_device() -> None:
    assert metric_text(HISTORY).splitlines() == [
        "power_w, last 1 h",
        "DEVICE  SAMPLES                  MIN   MEAN    MAX",
        "gpu0         60                 81 W  350 W  700 W",
        "cpu0          0  n/a (no permission)",
    ]
    empty = MetricHistory("power_w", HISTORY.since, NOW, 60.0, ())
    assert metric_text(empty).startswith("no power_w in the last 1 h")


def test_csv_has_a_row_per_bucket() -> None:
    (row,) = csv.DictReader(io.StringIO(metric_csv(HISTORY)))
    assert row == {
        "start": "2026-11-22T08:59:00+00:00",
        "device": "gpu0",
        "device_key": "fake:gpu-0",
        "metric": "power_w",
        "samples": "60",
        "min": "81.0",
        "mean": "350.5",
        "max": "700.25",
    }


def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    client = FakeClient([Snapshot(1, NOW, 1.0, ())])
    client.past_metrics = SERIES
    monkeypatch.setattr("hwdash.cli.settings.client_for", lambda *_, **__: client)
    assert main(["history", "metrics", "--metric", "power_w", "--device", "gpu0", "--format", "json"]) == 0
    assert client.metric_calls == [("power_w", 3600.0, "gpu0")]
    data = json.loads(capsys.readouterr().out)
    assert data["series"][0]["summary"]["max"] == 700.25
    assert data["series"][1] == {"device": "cpu0", "device_key": "cpu:x", "buckets": [], "absent": "no_permission"}
    assert main(["history", "metrics", "--metric", "power_w"]) == 0
    for arguments in (["metrics"], ["events", "--metric", "power_w"]):
        assert main(["history", *arguments]) == 2
