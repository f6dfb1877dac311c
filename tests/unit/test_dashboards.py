"""Dashboards: what is in git is what is typed in, every panel can be read, every metric exists."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from estarsync_runtime.metrics import Metrics

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
FOREIGN = {"process_resident_memory_bytes", "process_cpu_seconds_total", "ALERTS"}
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}


def tool() -> Any:
    spec = importlib.util.spec_from_file_location("tools_dashboards", ROOT / "tools/dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def panels():
    for path in FILES:
        for panel in json.loads(path.read_text())["panels"]:
            yield pytest.param(panel, id=f"{path.stem}: {panel['title']}")


def test_what_is_in_git_is_what_is_typed_in():
    rendered = tool().rendered()
    assert set(rendered) == set(FILES)
    for path, text in rendered.items():
        assert path.read_text() == text, f"{path.name} is stale: run `make dashboards`"


@pytest.mark.parametrize("panel", list(panels()))
def test_a_panel_can_be_read(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]


@pytest.mark.parametrize("panel", list(panels()))
def test_a_panel_asks_for_metrics_that_exist(panel):
    metrics = vars(Metrics(CollectorRegistry())).values()
    declared = {
        each._name + suffix
        for each in metrics
        if isinstance(each, MetricWrapperBase)
        for suffix in SUFFIXES[str(each._type)]
    }
    for target in panel["targets"]:
        used = set(re.findall(r"\b(?:estarsync|process)_[a-z_]+|\bALERTS\b", target["expr"]))
        assert used
        assert used <= declared | FOREIGN


def test_no_two_panels_overlap():
    for path in FILES:
        cells = [
            (x, y)
            for panel in json.loads(path.read_text())["panels"]
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        ]
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) < 24
