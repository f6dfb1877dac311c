"""Leaving somebody's own cluster as it was."""

import threading

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from estarsync_runtime.clock import SystemClock
from sandbox.kafka.removal import remove

pytestmark = pytest.mark.kafka


def test_a_group_that_still_has_members_goes_once_they_have_left(kafka, topics, prefix):
    settings = {"bootstrap.servers": kafka.bootstrap}
    consumer = Consumer({**settings, "group.id": f"{prefix}a", "auto.offset.reset": "earliest"})
    joined = threading.Event()
    consumer.subscribe(topics[:1], on_assign=lambda *_: joined.set())

    def stay() -> None:
        while not joined.is_set():
            consumer.poll(0.1)
        SystemClock().sleep(2)
        consumer.close()

    member = threading.Thread(target=stay)
    member.start()
    assert joined.wait(30)

    assert remove(kafka.bootstrap, prefix, SystemClock()) == []
    member.join()

    admin = AdminClient(settings)
    assert not [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefix)]
    groups = admin.list_consumer_groups().result().valid
    assert not [group for group in groups if group.group_id.startswith(prefix)]


def test_without_a_prefix_nothing_is_deleted():
    with pytest.raises(ValueError, match="a prefix is needed"):
        remove("127.0.0.1:9", "", SystemClock())
