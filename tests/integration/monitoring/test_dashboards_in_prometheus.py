"""Every query of every dashboard, run on a real Prometheus that scrapes the real services at work."""

import json
import re
from pathlib import Path

import pytest

pytestmark = [pytest.mark.kafka, pytest.mark.long]

FILES = sorted((Path(__file__).parents[3] / "deploy/grafana/dashboards").glob("*.json"))
LOADED = "sum(estarsync_extractor_first_load_done) == 3 and sum(estarsync_loader_pending_records) == 0"
EMPTY = re.compile(r"reconcile|canary|dead_letters_total|dropped_fields_total")
"""What only a job pushes, and no job runs here; and what has no series until something is wrong."""


def queries():
    for path in FILES:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]


def asked(query):
    """A query as Grafana would ask it."""
    return query.replace("$__rate_interval", "5m").replace("$job", ".+")


def test_every_query_is_understood_and_answered(monitored):
    def work():
        monitored.post(f"{monitored.shop}/sandbox/edit", {"count": 1, "kinds": ["order"]})

    monitored.until(lambda: monitored.query(LOADED))
    monitored.until(lambda: monitored.query("sum(rate(estarsync_webhooks_total[1m])) > 0"), work)
    asked_for = {asked(query) for _, query in queries()}
    assert len(asked_for) > 40
    for query in asked_for:
        monitored.query(query)  # understood, whatever the answer
    with_data = {query for query in asked_for if not EMPTY.search(query)}
    for query in sorted(with_data):
        monitored.until(lambda query=query: monitored.query(query), work, what=query)
