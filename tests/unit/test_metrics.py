"""What every metric has: a name with its unit, a help text, labels from closed sets."""

import re

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from estarsync_runtime.metrics import Metrics

CLOSED = {
    "bound": "low and high",
    "code": "InvalidRecord's codes, in the code",
    "entity": "three",
    "feed": "the extractor's",
    "field": "the mapping's",
    "hop": "words in the code",
    "lane": "two",
    "operation": "the clients'",
    "outcome": "words in the code",
    "partition": "as the topic was made",
    "result": "four",
    "service": "ours",
    "status": "HTTP's",
    "step": "words in the code",
    "tier": "Dotdigital's, others are `other`",
    "topic": "the declared ones",
    "version": "one a process",
}
"""Every label with why the set of its values is closed. None may hold a key, an e-mail or a shopper's text."""
UNITS = (
    "_bytes", "_calls", "_done", "_events", "_imports", "_info", "_keys", "_leader", "_letters", "_limit", "_missing",
    "_notifications", "_offset", "_read", "_ready", "_records", "_rejected", "_remaining", "_seconds", "_sequence",
    "_paused", "_success",
    "_stopped", "_unchanged", "_used", "_webhooks", "_fields", "_ratio",
)  # fmt: skip
MOST_LABELS = 3


def families() -> dict[str, MetricWrapperBase]:
    declared = vars(Metrics(CollectorRegistry())).values()
    return {each._name: each for each in declared if isinstance(each, MetricWrapperBase)}


def test_there_are_metrics():
    assert len(families()) > 30


def test_every_name_says_whose_it_is_and_what_it_counts():
    for name, family in families().items():
        assert re.fullmatch(r"estarsync_[a-z_]+", name), name
        assert name.endswith(UNITS), f"{name}: end the name with what it counts, or add the unit to the list"
        assert family._documentation.endswith("."), name


def test_labels_come_from_closed_sets():
    for name, family in families().items():
        assert set(family._labelnames) <= set(CLOSED), f"{name}: say above why the label's set is closed"
        assert len(family._labelnames) <= MOST_LABELS, name
