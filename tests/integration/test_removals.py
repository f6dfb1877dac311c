"""`estarsync removals` against a real Kafka, and the poller's reading of what it wrote."""

import os
import subprocess
import sys

import msgspec
import pytest
from confluent_kafka import Producer

from estarsync_core.entities import Entity
from estarsync_core.estar.removal import Approval, Hold, hold_key
from estarsync_core.topics import CONTROL
from estarsync_runtime.settings import KafkaSettings
from extractor.removals import read_word
from sandbox.kafka import Broker

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("topics")]


def test_an_approval_reaches_the_poller(kafka: Broker, prefix: str) -> None:
    settings = KafkaSettings(kafka_bootstrap_servers=kafka.bootstrap, topic_prefix=prefix)
    env = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "TOPIC_PREFIX": prefix}

    def command(*words: str) -> tuple[int, str]:
        line = [sys.executable, "-m", "estarsync_cli", "removals", *words]
        done = subprocess.run(
            line, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    assert command("approve") == (1, "nothing is held back\n")
    hold = Hold("2026-01-02T00:00:00+00:00", 40, 100, ("P-1", "P-2"))
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(settings.topic(CONTROL), msgspec.json.encode(hold), hold_key(Entity.PRODUCTS).encode())
    assert producer.flush(15) == 0
    assert read_word(settings, Entity.PRODUCTS) == (hold, None)
    code, text = command("list")
    assert code == 0
    assert "40 of 100" in text
    code, text = command("approve")
    assert code == 2
    assert "40 of 100 (40.0 %)" in text
    assert "P-1, P-2" in text
    assert "--yes" in text
    assert read_word(settings, Entity.PRODUCTS) == (hold, None)
    code, text = command("approve", "--yes", "--json")
    document = text[
        : text.index("}\n}") + 3
    ]  # what will happen is said on stderr, which comes after stdout here
    assert (code, msgspec.json.decode(document)) == (0, {"approved": {"products": 40}})
    assert read_word(settings, Entity.PRODUCTS) == (hold, Approval(hold.id, 40))
