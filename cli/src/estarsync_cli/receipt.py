"""What has become of an erasure, read from the topics: the proof for the shopper who asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from confluent_kafka import Message

from estarsync_core.control import Erasure, email_hash
from estarsync_core.entities import Entity, Reason
from estarsync_core.erasure import keys_gone_by, values_gone_by
from estarsync_core.errors import InvalidRecord
from estarsync_core.headers import version_of
from estarsync_core.topics import (
    DELIVERED,
    DELIVERIES,
    IMPORTS,
    dlq_topic,
    raw_topic,
    typed_topic,
)
from estarsync_runtime.avro import codec_for
from estarsync_runtime.kafka.extent import settings_of
from estarsync_runtime.kafka.lookup import Lookup
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.settings import KafkaSettings

_HOPS = (Entity.CONTACTS, Entity.ORDERS)
_RECORDS = [raw_topic(each) for each in _HOPS] + [typed_topic(each) for each in _HOPS]
_BY_AGE = [*(dlq_topic(each) for each in _RECORDS), DELIVERIES, IMPORTS]
_TOPICS = [*_RECORDS, *_BY_AGE, DELIVERED]
_GONE = {"renamed", "kept", "removed"}  # the states of an e-mail that the shop has given up
_SKEW = timedelta(minutes=5)  # between this clock and the services'
Keys = list[tuple[Entity, str]]


@dataclass(slots=True)
class Step:
    """What has become of one record of the shopper's.

    Attributes:
        entity: a contact, or an order.
        key: of the record.
        raw: when its tombstone was written to the raw topic; None before.
        typed: the same of the typed topic.
        attempts: of the loader to delete it, oldest first.
        there: whether Dotdigital holds it, as far as the loader knows.
        refused: the code with which Dotdigital refused to delete it, or None.
        guest: a contact that only orders know: the shop has nothing to take back.
    """

    entity: Entity
    key: str
    raw: datetime | None = None
    typed: datetime | None = None
    attempts: list[dict[str, Any]] | None = None
    there: bool = False
    refused: str | None = None
    guest: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        taken_back = self.guest or (self.raw is not None and self.typed is not None)
        return taken_back and (not self.there or self.refused is not None)


class Search:
    """Looks for a shopper's records. For one thread; close it in the end.

    Args:
        settings: which Kafka.
        email: canonical.
    """

    def __init__(self, settings: KafkaSettings, email: str) -> None:
        self._settings = settings
        self._email = email
        self._codec = codec_for(settings)
        self._lookup = Lookup(settings, _TOPICS)
        self._former: tuple[str, ...] = ()

    def close(self) -> None:
        """Let go of Kafka."""
        self._lookup.close()

    def keys(self) -> Keys:
        """The shopper's contacts, where there are any, and orders; blocks while reading all orders' payloads."""
        self._former = self._find_former()
        found = [each for each in self.emails if self._customer(each) or self._guest(each)]
        return [(Entity.CONTACTS, each) for each in found] + [(Entity.ORDERS, key) for key in self._orders()]

    @property
    def emails(self) -> tuple[str, ...]:
        """The shopper's e-mail, and those that the shop had for them before, as far as nobody has them now."""
        return (self._email, *self._former)

    def _find_former(self) -> tuple[str, ...]:
        """The loader's rows say where a shopper has gone; older ones are read too, as far as Kafka has them still."""
        prefix = f"{Entity.CONTACTS}:".encode()
        links: dict[str, str] = {}
        for message in self._lookup.where(DELIVERED, lambda each: (each.key() or b"").startswith(prefix)):
            if message.value() is None:
                continue  # forgotten by an erasure
            row, (_, email) = _row(message), _marked(message)
            links.pop(email, None)
            if row.get("email") and row.get("outcome") in _GONE:
                links[email] = row["email"]
        found, new = {self._email}, {self._email}
        while new:
            new = {old for old, now in links.items() if now in new} - found
            found |= new
        former = sorted(found - {self._email})
        rows = self._latest(raw_topic(Entity.CONTACTS), [each.encode() for each in former])
        taken = {key.decode() for key, message in rows.items() if message.value() is not None}
        return tuple(each for each in former if each not in taken)

    def _customer(self, email: str) -> bool:
        """Whether the shop has the contact, or had it until the erasure."""
        rows = self._latest(raw_topic(Entity.CONTACTS), [email.encode()])
        return any(message.value() is not None or _erased(message) for message in rows.values())

    def _guest(self, email: str) -> bool:
        """Whether the loader has made a contact of it, or had until the erasure."""
        return bool(self._latest(DELIVERED, [f"{Entity.CONTACTS}:{email}".encode()]))

    def _orders(self) -> list[str]:
        topic, needles = typed_topic(Entity.ORDERS), [each.encode() for each in self.emails]
        # As it stands in Avro: only what has it is decoded. Older versions are found too, so the latest decides.
        found = {
            each.key() or b""
            for each in self._lookup.where(
                topic, lambda each: any(needle in (each.value() or b"") for needle in needles)
            )
        }
        latest = self._latest(topic, sorted(found))
        return [
            key.decode() for key, message in latest.items() if _erased(message) or self._is_theirs(message)
        ]

    def _is_theirs(self, message: Message) -> bool:
        value = message.value()
        try:
            return value is not None and self._codec.decode(Entity.ORDERS, value)["email"] in self.emails
        except InvalidRecord:
            return False  # its dead letter says so

    def _latest(self, topic: str, keys: Sequence[bytes]) -> dict[bytes, Message]:
        rows = self._lookup.by_key({topic: keys}) if keys else ()
        return {message.key() or b"": message for _, message in rows}

    def steps(self, keys: Keys, since: datetime) -> list[Step]:
        """How far each record's erasure has come; blocks for a few reads.

        Args:
            keys: of the records.
            since: when the erasure was asked for.
        """
        steps = {(entity, key): Step(entity, key, attempts=[]) for entity, key in keys}
        marked = [f"{entity}:{key}".encode() for entity, key in keys]
        for message in self._latest(DELIVERED, marked).values():
            steps[_marked(message)].there = bool(_row(message).get("there"))
        wanted: dict[str, Sequence[bytes]] = {DELIVERIES: marked} if marked else {}
        for entity in _HOPS:
            own = [key.encode() for each, key in keys if each is entity]
            if own:
                wanted |= {raw_topic(entity): own, typed_topic(entity): own}
        for topic, message in self._lookup.by_key(wanted, since - _SKEW):
            if topic == DELIVERIES:
                _attempt(steps[_marked(message)], message)
                continue
            entity = Entity(topic.split(".")[1])
            step = steps[entity, (message.key() or b"").decode()]
            at = _written(message) if _erased(message) else None
            if topic.startswith("estar."):
                step.raw = at
            else:
                step.typed = at
        for email in self.emails:
            if (contact := steps.get((Entity.CONTACTS, email))) is not None:
                contact.guest = not self._customer(email)
        for step in steps.values():
            step.refused = _refusal(step, since)
        return list(steps.values())

    def days(self, keys: Keys, at: datetime) -> list[dict[str, Any]]:
        """For each topic that may hold bytes of the shopper's: by when values and keys are gone, None for never."""
        own = [key.encode() for _, key in keys]
        marked = [f"{entity}:{key}".encode() for entity, key in keys]
        configs = settings_of(self._settings, _TOPICS)
        latest = self._latest(DELIVERED, marked).values()
        rows: list[dict[str, Any]] = []
        for topic in [*_RECORDS, *_BY_AGE] if own else []:
            config = configs[topic]
            rows.append(
                {"topic": topic, "values": values_gone_by(config, at), "keys": keys_gone_by(config, at)}
            )
        if latest:
            config = configs[DELIVERED]
            written = max(_written(each) for each in latest)
            # The orders' rows stay, under their numbers, and without the e-mail.
            named = any(self._names(each) for each in latest)
            rows.append(
                {
                    "topic": DELIVERED,
                    "values": None if named else values_gone_by(config, written),
                    "keys": None if named else keys_gone_by(config, written),
                    "order_numbers_stay": any(each.value() for each in latest),
                }
            )
        return rows

    def _names(self, message: Message) -> bool:
        """Whether the loader's row still says the e-mail: as its key, or in its value."""
        own = {f"{Entity.CONTACTS}:{each}".encode() for each in self.emails}
        named = (message.key() or b"") in own or _row(message).get("email") in self.emails
        return message.value() is not None and named


def _marked(message: Message) -> tuple[Entity, str]:
    entity, _, key = (message.key() or b"").decode().partition(":")
    return Entity(entity), key


def _row(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.json.decode(message.value() or b"{}")
    return row


def _attempt(step: Step, message: Message) -> None:
    row = _row(message)
    names = ("at", "batch", "import_id", "outcome", "code")
    if step.attempts is not None:
        step.attempts.append({name: row[name] for name in names if row.get(name)})


def _written(message: Message) -> datetime:
    return datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)


def _refusal(step: Step, since: datetime) -> str | None:
    """The code of the last attempt, where that was refused and came after the tombstone; a guest has none."""
    last = step.attempts[-1] if step.attempts else {}
    begun = since if step.guest else step.typed
    if begun is None or last.get("outcome") != "dead_letter":
        return None
    at = datetime.fromisoformat(last["at"])
    return str(last.get("code") or "refused") if at >= begun - _SKEW else None


def _erased(message: Message) -> bool:
    if message.value() is not None:
        return False
    try:
        return version_of(headers_of(message))[2] is Reason.ERASED
    except InvalidRecord:
        return False


def receipt(
    emails: Sequence[str], erasure: Erasure, steps: Sequence[Step], days: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The receipt as plain data: no e-mail, only its hash; order numbers stay, for they name what was deleted."""
    known = [row["keys"] for row in days]
    return {
        "id": erasure.id,
        "email_sha256": email_hash(emails[0]),
        "former_emails_sha256": [email_hash(each) for each in emails[1:]],
        "asked_for": erasure.at,
        "over": all(step.over for step in steps),
        "records": [
            {
                "entity": step.entity,
                **({"key": step.key} if step.entity is Entity.ORDERS else {}),
                "removed_from_events": step.raw,
                "removed_from_payloads": step.typed,
                "deletion_attempts": step.attempts,
                "refused": step.refused,
                "at_dotdigital": step.there,
                "only_orders_know_it": step.guest and step.key not in emails[1:],
                "former_e_mail": step.entity is Entity.CONTACTS and step.key in emails[1:],
            }
            for step in steps
        ],
        "topics": list(days),
        "gone_from_kafka_by": None if None in known else max(known, default=None),
    }
