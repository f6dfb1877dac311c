"""The declared topics keep the rules that the whole design stands on."""

import pytest

from estarsync_core.entities import Entity
from estarsync_core.topics import declared_topics, dlq_topic, raw_topic, typed_topic

TOPICS = {topic.name: topic for topic in declared_topics()}
DAY = 24 * 60 * 60 * 1000


def test_every_topic_but_control_has_one_writer():
    assert {name for name, topic in TOPICS.items() if len(topic.writers) != 1} == {"estarsync.control.v1"}


@pytest.mark.parametrize("entity", Entity)
def test_raw_and_typed_topics_share_their_partitions(entity):
    names = [
        raw_topic(entity),
        typed_topic(entity),
        dlq_topic(raw_topic(entity)),
        dlq_topic(typed_topic(entity)),
    ]
    assert len({TOPICS[name].partitions for name in names}) == 1


@pytest.mark.parametrize("entity", Entity)
def test_versions_are_kept_a_week_tombstones_a_month_and_erasures_are_done_in_a_month(entity):
    for name in (raw_topic(entity), typed_topic(entity)):
        config = TOPICS[name].config
        assert config["cleanup.policy"] == "compact"
        assert int(config["min.compaction.lag.ms"]) >= 7 * DAY
        assert int(config["delete.retention.ms"]) >= 30 * DAY
        assert int(config["max.compaction.lag.ms"]) == 30 * DAY


def test_dead_letters_are_kept_for_90_days():
    for name, topic in TOPICS.items():
        if ".dlq" in name:
            assert topic.config["retention.ms"] == 90 * DAY
