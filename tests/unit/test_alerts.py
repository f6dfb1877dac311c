"""Alerts, their runbooks and their tests belong together, and use only metrics that exist."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from estarsync_cli.app import app
from estarsync_runtime.metrics import Metrics

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yaml"))
TESTS = sorted((ROOT / "deploy/prometheus/tests").glob("*.yaml"))
RUNBOOKS = ROOT / "docs/runbooks"
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "See it in the sandbox"]
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}


def declared() -> set[str]:
    """The name of every series that a service can show."""
    metrics = vars(Metrics(CollectorRegistry())).values()
    return {
        each._name + suffix
        for each in metrics
        if isinstance(each, MetricWrapperBase)
        for suffix in SUFFIXES[str(each._type)]
    }


def alerts() -> list[dict[str, Any]]:
    documents = [yaml.safe_load(path.read_text()) for path in RULES]
    return [rule for document in documents for group in document["groups"] for rule in group["rules"]]


ALERTS = {alert["alert"]: alert for alert in alerts()}


def test_there_are_alerts_and_no_two_of_a_name():
    assert len(alerts()) == len(ALERTS) > 20


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_what_and_where_to_read_on(name):
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{name}.md")


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_asks_for_metrics_that_exist(name):
    used = set(re.findall(r"\bestarsync_\w+", ALERTS[name]["expr"]))
    assert used
    assert used <= declared()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_its_page(name):
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert f"Severity: {ALERTS[name]['labels']['severity']}." in text


def test_no_page_is_left_behind():
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {*ALERTS, "README"}


def test_the_pages_name_commands_and_metrics_that_exist():
    root = typer.main.get_command(app)
    assert isinstance(root, typer.core.TyperGroup)
    for path in RUNBOOKS.glob("*.md"):
        text = path.read_text()
        assert set(re.findall(r"\bestarsync_\w+", text)) <= declared(), path.name
        for first, second in re.findall(r"[`\n]estarsync ([a-z]+)(?: ([a-z]+))?", text):
            command = root.commands.get(first)
            assert command is not None, f"{path.name}: there is no `estarsync {first}`"
            if isinstance(command, typer.core.TyperGroup):
                assert second in command.commands, f"{path.name}: there is no `estarsync {first} {second}`"


def test_every_alert_is_tested_both_ways():
    documents = [yaml.safe_load(path.read_text()) for path in TESTS]
    cases = [case for document in documents for test in document["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(ALERTS)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_stay_silent(path):
    promtool = shutil.which("promtool")
    if promtool is None:
        if os.environ.get("REQUIRE_PROMETHEUS") == "1":
            pytest.fail("REQUIRE_PROMETHEUS=1, but there is no promtool", pytrace=False)
        pytest.skip("there is no promtool here: install Prometheus (Debian: apt-get install prometheus)")
    done = subprocess.run([promtool, "test", "rules", str(path)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
