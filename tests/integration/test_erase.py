"""`estarsync erase` on a real Kafka, beside what the services would write."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from estarsync_core.control import Erasure, email_hash, erased_key
from estarsync_core.entities import Entity, Lane, Reason, Version
from estarsync_core.headers import EventHeaders
from estarsync_core.topics import DELIVERED, DELIVERIES, raw_topic, typed_topic
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.control import read_words
from estarsync_runtime.settings import KafkaSettings
from sandbox.kafka import Broker

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("topics")]
ANNA, GUEST = "anna@example.com", "guest@example.com"
CODEC, CLOCK = AvroCodec(), SystemClock()


def order(number: str, email: str) -> bytes:
    amounts = dict.fromkeys(("order_total", "order_subtotal", "discount_amount", "delivery_total"), 1.0)
    document: dict[str, Any] = {
        "id": number,
        "email": email,
        **amounts,
        "currency": "NZD",
        "purchase_date": datetime(2026, 5, 1, tzinfo=UTC),
        "order_status": "Complete",
        "delivery_method": None,
        "payment": None,
        "delivery_address": None,
        "billing_address": None,
        "products": [],
    }
    return CODEC.encode(Entity.ORDERS, document)


class World:
    """In place of the services."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self._sequence = 0
        self._producer = Producer(
            {"bootstrap.servers": settings.kafka_bootstrap_servers, "partitioner": "murmur2_random"}
        )

    def event(self, entity: Entity, key: str, value: bytes | None, reason: Reason | None = None) -> None:
        self._sequence += 1
        for topic, typed in ((raw_topic(entity), False), (typed_topic(entity), True)):
            version = Version(self._sequence, int(typed))
            headers = EventHeaders(
                entity, version, Lane.LIVE, "test", CLOCK.now(), typed=typed, reason=reason
            )
            self.put(topic, key, value, headers.encode())

    def settled(
        self,
        entity: Entity,
        key: str,
        outcome: str,
        code: str = "",
        *,
        there: bool,
        email: str | None = None,
    ) -> None:
        row = {
            "sequence": self._sequence,
            "revision": 1,
            "hash": "",
            "outcome": outcome,
            "there": there,
            "email": email,
        }
        self.put(DELIVERED, f"{entity}:{key}", msgspec.json.encode(row))
        at = CLOCK.now().isoformat()
        attempt = {
            "sequence": self._sequence,
            "revision": 1,
            "batch": "b",
            "outcome": outcome,
            "code": code,
            "at": at,
        }
        self.put(DELIVERIES, f"{entity}:{key}", msgspec.json.encode(attempt))

    def put(self, topic: str, key: str, value: bytes | None, headers: Any = None) -> None:
        self._producer.produce(self.settings.topic(topic), value, key, headers=headers)
        assert self._producer.flush(15) == 0

    def command(self, *words: str) -> tuple[int, str, str]:
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": self.settings.kafka_bootstrap_servers,
            "TOPIC_PREFIX": self.settings.topic_prefix,
        }
        done = subprocess.run(
            [sys.executable, "-m", "estarsync_cli", "erase", *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def world(kafka: Broker, prefix: str) -> World:
    found = World(KafkaSettings(kafka_bootstrap_servers=kafka.bootstrap, topic_prefix=prefix))
    found.event(Entity.CONTACTS, ANNA, b"{}")
    found.settled(Entity.CONTACTS, ANNA, "delivered", there=True)
    for number, email in (("1", ANNA), ("2", GUEST), ("3", ANNA)):
        found.event(Entity.ORDERS, number, order(number, email))
        found.settled(Entity.ORDERS, number, "delivered", there=True)
    found.event(Entity.ORDERS, "3", order("3", GUEST))  # it has moved
    return found


def test_an_erasure_is_asked_for_followed_and_proved(world: World, tmp_path) -> None:
    code, _, err = world.command(ANNA)
    assert code == 2
    assert "--yes" in err
    assert not read_words(world.settings).blocked

    code, out, err = world.command(f" {ANNA.upper()}", "--yes", "--no-wait", "--json")
    assert code == 1
    assert "the contact and 1 orders" in err
    assert ANNA in read_words(world.settings).blocked
    first = json.loads(out)
    assert not first["over"]
    assert {row["topic"]: row for row in first["topics"]}[DELIVERED]["keys"] is None  # its row is still there
    assert first["gone_from_kafka_by"] is None
    assert [(each["entity"], each["at_dotdigital"]) for each in first["records"]] == [
        ("contacts", True),
        ("orders", True),
    ]

    for entity, key in ((Entity.ORDERS, "1"), (Entity.CONTACTS, ANNA)):
        world.event(entity, key, None, Reason.ERASED)
        world.settled(entity, key, "removed", there=False)
    world.put(DELIVERED, f"{Entity.CONTACTS}:{ANNA}", None)
    path = tmp_path / "receipt.json"
    code, out, err = world.command(ANNA, "--receipt", str(path), "--json")
    assert code == 0, out + err
    receipt = json.loads(out)
    assert receipt == json.loads(path.read_bytes())
    assert receipt["id"] == first["id"]
    assert receipt["email_sha256"] == email_hash(ANNA)
    assert "anna" not in out + err
    assert {each["deletion_attempts"][-1]["outcome"] for each in receipt["records"]} == {"removed"}
    rows = {row["topic"]: row for row in receipt["topics"]}
    asked_for = datetime.fromisoformat(receipt["asked_for"])
    assert (datetime.fromisoformat(rows["estar.contacts.v1"]["values"]) - asked_for).days == 30
    # The e-mail is gone as a key, once its tombstone is; the orders' rows stay without it.
    assert (datetime.fromisoformat(rows[DELIVERED]["keys"]) - asked_for).days >= 60
    assert rows[DELIVERED]["order_numbers_stay"]
    assert receipt["gone_from_kafka_by"] == max(row["keys"] for row in receipt["topics"])

    assert world.command(ANNA, "--lift")[0] == 2
    assert world.command(ANNA, "--lift", "--yes")[0] == 0
    assert read_words(world.settings).get(erased_key(ANNA), Erasure) is None
    assert world.command(ANNA, "--lift", "--yes")[0] == 1


def test_a_refusal_is_in_the_receipt(world: World) -> None:
    assert world.command(ANNA, "--yes", "--no-wait")[0] == 1
    for entity, key in ((Entity.ORDERS, "1"), (Entity.CONTACTS, ANNA)):
        world.event(entity, key, None, Reason.ERASED)
    world.settled(Entity.ORDERS, "1", "removed", there=False)
    world.settled(Entity.CONTACTS, ANNA, "dead_letter", "contact_suppressed", there=True)
    code, out, err = world.command(ANNA)
    assert code == 1
    assert '"refused": "contact_suppressed"' in out
    assert "do it there" in err


def test_a_guest_who_is_erased_has_a_receipt_too(world: World) -> None:
    world.settled(Entity.CONTACTS, GUEST, "delivered", there=True)
    code, out, _ = world.command(GUEST, "--yes", "--no-wait", "--json")
    assert code == 1
    (contact, *orders) = json.loads(out)["records"]
    assert (contact["at_dotdigital"], contact["only_orders_know_it"]) == (True, True)
    assert {each["key"] for each in orders} == {"2", "3"}
    for number in ("2", "3"):
        world.event(Entity.ORDERS, number, None, Reason.ERASED)
        world.settled(Entity.ORDERS, number, "removed", there=False)
    assert not json.loads(world.command(GUEST, "--no-wait", "--json")[1])["over"], (
        "its contact is still there"
    )
    world.settled(Entity.CONTACTS, GUEST, "removed", there=False)
    world.put(DELIVERED, f"{Entity.CONTACTS}:{GUEST}", None)
    code, out, err = world.command(GUEST, "--json")
    assert code == 0, out + err
    receipt = json.loads(out)
    assert receipt["over"]
    assert receipt["records"][0]["deletion_attempts"][-1]["outcome"] == "removed"
    assert receipt["gone_from_kafka_by"] is not None


def test_a_refused_guest_is_in_the_receipt(world: World) -> None:
    world.settled(Entity.CONTACTS, GUEST, "delivered", there=True)
    world.command(GUEST, "--yes", "--no-wait")
    for number in ("2", "3"):
        world.event(Entity.ORDERS, number, None, Reason.ERASED)
        world.settled(Entity.ORDERS, number, "removed", there=False)
    world.settled(Entity.CONTACTS, GUEST, "dead_letter", "contact_suppressed", there=True)
    code, out, err = world.command(GUEST)
    assert code == 1
    assert '"refused": "contact_suppressed"' in out
    assert "do it there" in err


FORMER, OLDEST, TAKEN = "anna.b@example.com", "anna.c@example.com", "office@example.com"


def test_former_e_mails_are_erased_and_lifted_with_the_last_one(world: World) -> None:
    for old, new, outcome in ((OLDEST, FORMER, "kept"), (FORMER, ANNA, "renamed"), (TAKEN, ANNA, "kept")):
        world.event(Entity.CONTACTS, old, b"{}")
        world.settled(Entity.CONTACTS, old, "delivered", there=True)
        world.event(Entity.CONTACTS, old, None, Reason.RENAMED)
        world.settled(Entity.CONTACTS, old, outcome, there=outcome == "kept", email=new)
    world.event(Entity.CONTACTS, TAKEN, b"{}")  # by somebody else
    world.event(Entity.ORDERS, "4", order("4", FORMER))
    world.settled(Entity.ORDERS, "4", "delivered", there=True, email=ANNA)

    code, out, err = world.command(ANNA, "--yes", "--no-wait", "--json")
    assert code == 1
    assert "2 other e-mails" in err
    blocked = read_words(world.settings).blocked
    assert [each in blocked for each in (ANNA, FORMER, OLDEST, TAKEN, GUEST)] == [True] * 3 + [False] * 2
    first = json.loads(out)
    assert set(first["former_emails_sha256"]) == {email_hash(FORMER), email_hash(OLDEST)}
    assert {each.get("key") for each in first["records"]} == {None, "1", "4"}
    assert [each["former_e_mail"] for each in first["records"]].count(True) == 2
    assert "anna." not in out + err

    for entity, key in ((Entity.ORDERS, "1"), (Entity.ORDERS, "4"), (Entity.CONTACTS, ANNA)):
        world.event(entity, key, None, Reason.ERASED)
        world.settled(entity, key, "removed", there=False)
    for email in (ANNA, FORMER, OLDEST):
        world.put(DELIVERED, f"{Entity.CONTACTS}:{email}", None)
    code, out, err = world.command(ANNA, "--json")
    assert code == 0, out + err
    assert set(json.loads(out)["former_emails_sha256"]) == {email_hash(FORMER), email_hash(OLDEST)}

    assert world.command(ANNA, "--lift", "--yes")[0] == 0
    assert not read_words(world.settings).blocked
