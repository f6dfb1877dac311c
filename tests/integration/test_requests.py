"""What people ask for on a real Kafka: written down, watched, stopped, resumed; and what a topic has lost."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # documented
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)
from typing_extensions import override

from estarsync_core.control import (
    Backfill,
    Drop,
    LaneStop,
    Letter,
    Progress,
    Redrive,
    Release,
    Resync,
    encode,
    progress_key,
    release_key,
    request_key,
    stop_key,
)
from estarsync_core.deadletters import Origin, dead_letter_headers
from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_core.topics import EXTRACT_DLQ, dlq_topic, raw_topic, typed_topic
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.control import ControlReader, read_words, write_words
from estarsync_runtime.kafka.extent import Extents
from estarsync_runtime.settings import KafkaSettings
from sandbox.kafka import Broker

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("topics")]
CLOCK = SystemClock()
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def settings(kafka: Broker, prefix: str) -> KafkaSettings:
    return KafkaSettings(kafka_bootstrap_servers=kafka.bootstrap, topic_prefix=prefix)


@pytest.fixture
def command(settings: KafkaSettings) -> Command:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "TOPIC_PREFIX": settings.topic_prefix,
        "COLUMNS": "200",
    }

    def run(*words: str) -> tuple[int, str, str]:
        line = [sys.executable, "-m", "estarsync_cli", *words]
        done = subprocess.run(
            line, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    return run


class Obedient(threading.Thread):
    """In place of a service: reports progress on every request until it is done."""

    def __init__(self, settings: KafkaSettings, state: str = "done", parts: int = 0) -> None:
        super().__init__(daemon=True)
        self._settings, self._state, self._parts = settings, state, parts
        self._ended = threading.Event()
        self.start()

    @override
    def run(self) -> None:
        with closing(ControlReader(self._settings)) as reader:
            seen: set[str] = set()
            while not self._ended.is_set():
                keys = {
                    *reader.words.all("resync/", Resync),
                    *reader.words.all("backfill/", Backfill),
                    *reader.words.all("redrive/", Redrive),
                }
                for key in keys - seen:
                    self._obey(key.partition("/")[2])
                seen |= keys
                reader.poll(0.1)

    def _obey(self, request: str) -> None:
        for state, done in (("running", 1), (self._state, 2)):
            said = msgspec.json.decode(
                encode(Progress(request, "running", done, 2, CLOCK.now())), type=dict[str, Any]
            )
            value = msgspec.json.encode({**said, "state": state, "reason": "it says why"})
            names = [progress_key(request, number) for number in range(self._parts)] or [
                progress_key(request)
            ]
            write_words(self._settings, dict.fromkeys(names, value))

    def end(self) -> None:
        self._ended.set()
        self.join(30)


@pytest.fixture
def obedient(settings: KafkaSettings) -> Iterator[Callable[..., None]]:
    started: list[Obedient] = []
    yield lambda **how: started.append(Obedient(settings, **how))
    for each in started:
        each.end()


def test_a_backfill_is_asked_for_watched_and_listed(settings, command, obedient):
    code, _, err = command("backfill", "--entity", "orders", "--all")
    assert code == 2
    assert "--yes" in err
    assert not read_words(settings).all("backfill/", Backfill)

    obedient()
    code, out, err = command("backfill", "--entity", "orders", "--all", "--yes", "--json")
    assert code == 0, err
    (asked,) = msgspec.json.decode(out)
    assert asked["entity"] == "orders"
    assert (asked["progress"]["state"], asked["progress"]["done"]) == ("done", 2)
    (listed,) = msgspec.json.decode(command("requests", "list", "--json")[1])
    assert listed == asked
    assert asked["id"] in command("requests", "list")[1]


def test_a_resync_from_raw_is_over_when_every_partition_is(command, obedient):
    obedient(parts=6)
    since = (CLOCK.now() - timedelta(days=1)).isoformat()
    words = ["resync", "--entity", "orders", "--from", "raw", "--since", since, "--yes"]
    code, _, err = command(*words)
    assert code == 0, err
    assert "12 records" in err
    assert "wait" in err  # how long live events do


def test_one_that_is_refused_is_told_with_its_reason(command, obedient):
    obedient(state="refused")
    code, _, err = command("resync", "--entity", "contacts", "--key", " ANNA@example.com", "--yes")
    assert code == 1
    assert "it says why" in err
    assert "anna" not in err.lower()


def test_a_request_is_stopped_and_resumed(settings, command):
    code, out, err = command("resync", "--entity", "products", "--all", "--yes", "--no-wait", "--json")
    assert code == 0, err
    (asked,) = msgspec.json.decode(out)
    key = f"resync/{asked['id']}"
    code, _, err = command("requests", "stop", asked["id"])
    assert code == 2
    assert "--yes" in err
    assert command("requests", "stop", asked["id"], "--yes")[0] == 0
    stopped = read_words(settings).get(key, Resync)
    assert stopped is not None
    assert stopped.cancelled
    assert command("requests", "resume", asked["id"], "--yes")[0] == 0
    resumed = read_words(settings).get(key, Resync)
    assert resumed is not None
    assert not resumed.cancelled
    code, _, err = command("requests", "stop", "another")
    assert code == 2
    assert "estarsync requests list" in err


def test_what_a_topic_has_lost_is_not_replayed_in_silence(settings, command, kafka):
    topic = settings.topic(raw_topic(Entity.ORDERS))
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for number in range(3):
        producer.produce(topic, b"{}", str(number).encode(), partition=0)
    assert producer.flush(15) == 0
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    # As an operator may have set it; what is only compacted loses nothing.
    entry = ConfigEntry("cleanup.policy", "compact,delete", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    for changed in admin.incremental_alter_configs([resource]).values():
        changed.result()
    deadline = CLOCK.monotonic() + 60
    while any(future.exception() for future in admin.delete_records([TopicPartition(topic, 0, 2)]).values()):
        assert CLOCK.monotonic() < deadline, "the broker does not take the topic's new policy"
        CLOCK.sleep(0.2)
    with closing(Extents(settings, [raw_topic(Entity.ORDERS)])) as extents:
        assert extents.records(raw_topic(Entity.ORDERS)) == 1
        assert extents.lag(raw_topic(Entity.ORDERS), "nobody").records == 1
    code, _, err = command("resync", "--entity", "orders", "--from", "raw", "--all", "--yes")
    assert code == 2
    assert "estarsync backfill --entity orders --all" in err


def test_a_resync_that_would_count_as_older_is_refused(settings, command):
    tomorrow = CLOCK.now() + timedelta(days=1)
    asked = Resync("r-ahead", Entity.ORDERS, "raw", tomorrow)
    write_words(settings, {request_key(asked): encode(asked)})
    code, _, err = command("resync", "--entity", "orders", "--from", "raw", "--all", "--yes")
    assert code == 2
    assert "r-ahead" in err
    assert "clock" in err
    code, _, err = command("resync", "--entity", "products", "--from", "raw", "--all", "--yes", "--no-wait")
    assert code == 0, err


def test_a_stopped_lane_is_shown_and_released(settings, command):
    assert command("lanes", "list")[0] == 0
    at = datetime(2026, 5, 1, tzinfo=UTC)
    stop = LaneStop("s1", "flood", "too many dead letters: see `estarsync dlq list`", at)
    write_words(settings, {stop_key(Entity.ORDERS): encode(stop)})
    code, out, _ = command("lanes", "list")
    assert code == 1
    assert "too many dead letters" in out
    assert command("lanes", "resume")[0] == 2
    assert command("lanes", "resume", "products", "--yes")[0] == 1
    code, out, err = command("lanes", "resume", "orders", "--yes")
    assert code == 0, err
    release = read_words(settings).get(release_key(Entity.ORDERS), Release)
    assert release is not None
    assert release.id == "s1"
    assert command("lanes", "list", "--json")[1] == "{}\n"
    assert command("lanes", "resume", "--yes")[0] == 1


@pytest.fixture
def letters(settings: KafkaSettings) -> list[str]:
    """Two contacts that could not be mapped, one of them for the second time, an order that was refused, and one that
    could not be read; their ids."""
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})
    mapping, delivery = dlq_topic(raw_topic(Entity.CONTACTS)), dlq_topic(typed_topic(Entity.ORDERS))
    ids: list[str] = []

    def put(topic: str, key: str, value: bytes, headers: Any = None) -> None:
        producer.produce(
            settings.topic(topic),
            value,
            key,
            headers=headers,
            on_delivery=lambda _, sent: ids.append(f"{topic}/{sent.partition()}/{sent.offset()}"),
        )
        assert producer.flush(15) == 0

    origin = Origin("t", 0, 0, "transformer", "t-0", "map", "m")
    first = dead_letter_headers([], origin, InvalidRecord("customers[0].Email", "not_an_email"))
    put(mapping, "anna@example.com", b'{"FirstName": "Anna"}', first)
    put(
        mapping,
        "bert@example.com",
        b"{}",
        dead_letter_headers(first, origin, InvalidRecord("customers[0].Email", "not_an_email")),
    )
    put(delivery, "77", b"?", dead_letter_headers([], origin, InvalidRecord("order_total", "out_of_range")))
    put(EXTRACT_DLQ, "orders:88", b'{"entity": "orders", "id": "88", "window": null, "code": "gone"}')
    return ids


def test_dead_letters_are_grouped_masked_and_shown(command, letters):
    code, out, _ = command("dlq", "list", "--json")
    assert code == 1
    groups = {(group["topic"], group["code"]): group for group in msgspec.json.decode(out)}
    assert len(groups) == 3
    mapped = groups["estar.contacts.v1.dlq", "not_an_email"]
    assert (mapped["count"], mapped["attempts"], mapped["field"]) == (2, 2, "customers[0].Email")
    assert {each["key"] for each in mapped["examples"]} == {"a***@example.com", "b***@example.com"}
    assert "anna" not in command("dlq", "list")[1]

    code, out, _ = command("dlq", "show", "--id", letters[0], "--json")
    assert code == 0
    (shown,) = msgspec.json.decode(out)
    assert shown["failed_at"] == "mapping"
    assert "record" not in shown
    (shown,) = msgspec.json.decode(
        command("dlq", "show", "--key", "anna@example.com", "--show-values", "--json")[1]
    )
    assert shown["record"] == {"FirstName": "Anna"}
    (shown,) = msgspec.json.decode(command("dlq", "show", "--at", "delivery", "--show-values", "--json")[1])
    assert shown["record"] == {"unreadable": "?"}
    assert command("dlq", "show", "--code", "nothing")[0] == 1


def test_a_selection_is_redriven_by_those_who_can(settings, command, letters, obedient):
    code, _, err = command("dlq", "redrive", "--yes")
    assert code == 2
    assert "--all" in err
    obedient()
    code, out, err = command("dlq", "redrive", "--all", "--yes")
    assert code == 0, err
    assert "not_an_email" in out
    asked = read_words(settings).all("redrive/", Redrive).values()
    sent = {each.by: {f"{one.topic}/{one.partition}/{one.offset}" for one in each.letters} for each in asked}
    assert sent == {"extractor": {letters[0], letters[1], letters[3]}, "loader": {letters[2]}}
    assert command("dlq", "list", "--json") == (0, "[]\n", "")
    assert len(msgspec.json.decode(command("dlq", "list", "--every-state", "--json")[1])) == 3


def test_what_is_dropped_is_listed_no_more(settings, command, letters):
    old = Drop("old", datetime(2020, 1, 1, tzinfo=UTC), (Letter("t", 0, 0),))
    write_words(settings, {"drop/old": encode(old)})
    assert command("dlq", "drop", "--entity", "contacts")[0] == 2
    code, out, err = command("dlq", "drop", "--entity", "contacts", "--yes")
    assert code == 0, err
    assert "2 set aside" in out
    left = msgspec.json.decode(command("dlq", "list", "--json")[1])
    assert {group["topic"] for group in left} == {"dotdigital.orders.v1.dlq", EXTRACT_DLQ}
    (dropped,) = read_words(settings).all("drop/", Drop).values()
    assert {f"{each.topic}/{each.partition}/{each.offset}" for each in dropped.letters} == set(letters[:2])
    assert command("dlq", "drop", "--entity", "contacts", "--yes")[0] == 1
