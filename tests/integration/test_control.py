"""The control topic on a real Kafka: what a person writes, a service sees while it runs."""

from datetime import UTC, datetime

import pytest

from estarsync_core.control import Erasure, Release, encode, erased_key, release_key
from estarsync_core.entities import Entity
from estarsync_runtime.kafka.control import ControlReader, read_words, write_words
from estarsync_runtime.settings import KafkaSettings
from sandbox.kafka import Broker

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("topics")]
AT = datetime(2026, 5, 1, tzinfo=UTC)


def test_a_word_is_there_at_the_start_and_a_new_one_comes_while_running(kafka: Broker, prefix: str) -> None:
    settings = KafkaSettings(kafka_bootstrap_servers=kafka.bootstrap, topic_prefix=prefix)
    write_words(settings, {release_key(Entity.ORDERS): encode(Release("s1", AT))})
    reader = ControlReader(settings)
    try:
        assert reader.words.get(release_key(Entity.ORDERS), Release) == Release("s1", AT)
        key = erased_key("anna@example.com")
        write_words(settings, {key: encode(Erasure("e1", AT))})
        changed: set[str] = set()
        for _ in range(300):
            changed |= reader.poll(0.1)
            if changed:
                break
        assert changed == {key}
        assert "anna@example.com" in reader.words.blocked
        assert "anna@example.com" in read_words(settings).blocked
        write_words(settings, {key: None})
        assert "anna@example.com" not in read_words(settings).blocked
    finally:
        reader.close()
