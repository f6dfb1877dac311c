"""The loader against the sandbox Dotdigital, all in one process and without waiting."""

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from confluent_kafka import KafkaError, Message, TopicPartition
from prometheus_client import CollectorRegistry

from estarsync_core.control import Letter, Release, Words, encode, release_key
from estarsync_core.dotdigital.fields import DATA_FIELDS
from estarsync_core.entities import Entity, Lane, Reason, Version
from estarsync_core.headers import EventHeaders
from estarsync_core.topics import CONTROL, DELIVERED, DELIVERIES, IMPORTS, dlq_topic, typed_topic
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.dotdigital.client import Answer
from estarsync_runtime.dotdigital.connect import connect
from estarsync_runtime.dotdigital.provisioning import existing, provision
from estarsync_runtime.kafka.positions import Positions
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.reconcile import Comparison, Reconciler
from estarsync_runtime.testing import FakeClock, FakeProducer, Written
from estarsync_runtime.tracing import OFF, Tracing
from loader.batches import Spooler, Write
from loader.calls import Job
from loader.control import Control
from loader.disk import Disk
from loader.engine import Engine
from loader.errands import Errands
from loader.gate import Gate
from loader.intake import Intake
from loader.lanes import Lanes
from loader.ledger import Ledger
from loader.loop import Loop
from loader.reader import Reader
from loader.recall import Recall
from loader.redrive import Redriver
from loader.replay import Replay
from loader.report import Settlement
from loader.restore import open_batches, settled_states
from loader.settings import Settings
from loader.table import Table
from loader.traced import Traces
from sandbox.dotdigital.contacts import Contact
from sandbox.dotdigital.faults import Fault, FaultRequest
from sandbox.dotdigital.handler import DotdigitalSandbox
from sandbox.dotdigital.options import Options

CODEC = AvroCodec()
TIME = datetime(2026, 1, 1, tzinfo=UTC)


class InlineCalls:
    """Makes a call where it is started; its answer waits until somebody asks, or `held` is false again."""

    def __init__(self) -> None:
        self.held = False
        self._done: list[tuple[Job, Answer]] = []

    def start(self, job: Job, call: Callable[[], Answer]) -> None:
        self._done.append((job, call()))

    def answers(self) -> Iterator[tuple[Job, Answer]]:
        while self._done and not self.held:
            yield self._done.pop(0)


class Topics:
    """The typed topics, one partition each, and a consumer of them. Reading blocks by moving the clock."""

    def __init__(self, names: list[str], clock: FakeClock) -> None:
        self.log: dict[str, list[Message]] = {name: [] for name in names}
        self.pace = 0.0
        self.backlog: Topics | None = None
        self.closed = False
        self._clock = clock
        self._next = dict.fromkeys(names, 0)
        self._at_end: set[str] = set()
        self.paused: set[str] = set()

    def apart(self, offsets: Mapping[tuple[str, int], int]) -> Reader:
        """Read what comes from now on, and the backlog from these offsets beside it."""
        self.backlog = Topics([], self._clock)
        self.backlog.log = self.log
        self.backlog.seek(offsets)
        ends = {(name, 0): len(log) for name, log in self.log.items()}
        self.seek(ends)
        begins = {place: offsets.get(place, 0) for place in ends}
        return Reader(
            self,
            self.backlog,
            {place: (begins[place], end) for place, end in ends.items() if begins[place] < end},
        )

    @property
    def read(self) -> bool:
        """Whether everything was read."""
        if self.backlog is not None and not self.backlog.closed:
            return False
        return all(self._next[name] == len(log) for name, log in self.log.items())

    def seek(self, offsets: Mapping[tuple[str, int], int]) -> None:
        self._next = {name: offsets.get((name, 0), 0) for name in self.log}
        self._at_end, self.paused = set(), set()

    def fetch(self, entity: Entity, places: Sequence[tuple[int, int]]) -> list[Message]:
        log = next(log for name, log in self.log.items() if name.endswith(typed_topic(entity)))
        return [log[offset] for partition, offset in places]

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.paused |= {each.topic for each in partitions}

    def resume(self, partitions: list[TopicPartition]) -> None:
        self.paused -= {each.topic for each in partitions}

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        found: list[Message] = []
        for name, log in self.log.items():
            if name in self.paused:
                continue
            new = log[self._next[name] :][: num_messages - len(found)]
            self._next[name] += len(new)
            found += new
            if new:
                self._at_end.discard(name)
            if self._next[name] == len(log) and name not in self._at_end:
                self._at_end.add(name)
                end = KafkaError(KafkaError._PARTITION_EOF)
                found.append(Message(topic=name, partition=0, offset=len(log), error=end))
        self._clock.advance(0.0 if found else max(self.pace, timeout))
        return found

    def close(self) -> None:
        self.closed = True


class Archive:
    """The typed topics and the dead letters, for reading again."""

    def __init__(self, topics: Topics, producer: FakeProducer, settings: Settings) -> None:
        self._topics, self._producer, self._settings = topics, producer, settings
        self._at = dict[str, int]()

    def spans(
        self, entity: Entity, since: datetime | None, until: datetime | None
    ) -> Mapping[tuple[str, int], tuple[int, int]]:
        assert since is None
        assert until is not None
        name = self._settings.topic(typed_topic(entity))
        return {(name, 0): (0, len(self._topics.log[name]))}

    def reading(self, offsets: Mapping[tuple[str, int], int]) -> "Archive":
        self._at = {name: offset for (name, _), offset in offsets.items()}
        return self

    def read(self) -> list[Message]:
        found: list[Message] = []
        for name, offset in self._at.items():
            new = self._topics.log[name][offset:][:10]
            self._at[name] += len(new)
            found += new
        return found

    def fetch(self, letters: Sequence[Letter]) -> list[Message]:
        found = []
        for letter in letters:
            topic = self._settings.topic(letter.topic)
            written = [each for each in self._producer.records if each.topic == topic][letter.offset]
            found.append(
                Message(
                    topic=topic,
                    partition=0,
                    offset=letter.offset,
                    key=written.key,
                    value=written.value,
                    headers=[*written.headers],
                )
            )
        return found

    def close(self) -> None:
        """Nothing is held."""


class People:
    """What people say on the control topic, beside what the loader itself writes there."""

    def __init__(self, producer: FakeProducer, topic: str) -> None:
        self.words = Words()
        self._producer, self._topic = producer, topic
        self._said: list[tuple[str, bytes | None]] = []
        self._read = 0

    def say(self, key: str, word: msgspec.Struct | None) -> None:
        """Write a word; None takes one back."""
        self._said.append((key, None if word is None else encode(word)))

    def poll(self) -> set[str]:
        new = [
            ((each.key or b"").decode(), each.value)
            for each in self._producer.records[self._read :]
            if each.topic == self._topic
        ]
        self._read = len(self._producer.records)
        new += self._said
        self._said = []
        return {self.words.take(key.encode(), value) for key, value in new}


class Rig:
    """A loader with its account, its topics and its clock; time passes only in `run`."""

    apart = False
    """Whether a loader that starts reads its backlog beside what is new."""
    tracing: Tracing = OFF
    """What loaders that start trace with."""

    def __init__(
        self,
        folder: Path,
        options: Options,
        settings: Settings,
        chunk: int,
        seed: int,
        write: Write = os.pwrite,
    ) -> None:
        self.folder, self.settings, self.codec, self.chunk = folder, settings, CODEC, chunk
        self.write = write
        self.clock = FakeClock()
        self.box = DotdigitalSandbox(options, self.clock, random.Random(seed))  # noqa: S311 - repeatable on purpose
        self.producer = FakeProducer()
        self.requests: list[httpx.Request] = []
        self._times: list[float] = []
        self._answer: Callable[[httpx.Request], tuple[int, Any] | None] = lambda _: None
        self.people = People(self.producer, settings.topic(CONTROL))
        self.topics = Topics([settings.topic(typed_topic(entity)) for entity in Entity], self.clock)
        self._sequence = count(1)
        self._ids = count(1)
        self.start()

    # The loader

    def start(self) -> None:
        """Start a loader on what an earlier one, killed or not, has left behind."""
        self.metrics = Metrics(CollectorRegistry())
        self.client = connect(self.settings, self.clock, self.metrics, httpx.MockTransport(self._handle))
        account = provision(self.client, self.settings)
        self.table = Table(self.folder)
        self.calls = InlineCalls()
        traces = Traces(self.tracing)
        ledger = Ledger(self.settings, self.producer, self.producer.send_offsets, self.clock)
        self.people.poll()
        self.lanes = Lanes(self.people.words, ledger, self.clock, self.metrics, self._new_id)
        settlement = Settlement(self.settings, self.table, ledger, self.lanes, self.clock, self.metrics)
        self.engine = Engine(
            self.settings,
            self.table,
            Spooler(
                self.folder,
                account,
                self.codec,
                self.settings.loader_batch_bytes,
                self.chunk,
                self.write,
                traces.took if traces.on else None,
            ),
            ledger,
            settlement,
            Gate(
                self.table,
                ledger,
                self.metrics,
                self.people.words.blocked,
                self.settings.contact_scope,
            ),
            Errands(
                self.table,
                ledger,
                self.codec,
                self.client,
                self.calls,
                self.lanes,
                account.orders_collection,
                self.settings.contact_scope,
                self.clock,
                self.metrics,
                self._new_id,
                self.people.words.blocked,
            ),
            self.client,
            self.calls,
            self.lanes,
            self.clock,
            self.metrics,
            self._new_id,
            traces,
        )
        for entity, key, state in settled_states(self._rows(DELIVERED)):
            if state is None:
                self.table.forget(entity, key)
                continue
            self.table.settle(entity, key, state)
        self.engine.adopt(*open_batches(self._rows(IMPORTS), self.folder, self.chunk))
        blocked = self.people.words.blocked
        self.topics.backlog = None
        self.topics.seek(self.producer.offsets)
        reader = self.topics.apart(self.producer.offsets) if self.apart else Reader(self.topics)
        intake = Intake(
            self.settings,
            self.table,
            self.codec,
            ledger,
            self.metrics,
            blocked,
            self.settings.contact_scope,
            reader.unread,
        )
        places = [(name, 0) for name in self.topics.log]
        words, archive = self.people.words, Archive(self.topics, self.producer, self.settings)
        names = {entity: self.settings.topic(typed_topic(entity)) for entity in Entity}
        replay = Replay(words, archive, intake, self.table, ledger, self.clock, self.metrics, names)
        redriver = Redriver(words, archive, intake, self.table, ledger, self.clock)
        recall = Recall(self.table, intake, self.topics, self.settings.contact_scope)
        control = Control(self.people, self.lanes, settlement, replay, redriver, recall, self.clock)
        positions = Positions(self.metrics, self.clock, lambda place: len(self.topics.log[place[0]]))
        contacts, *others = places
        disk = Disk(
            self.settings.loader_disk_bytes,
            self.folder,
            lambda: self.table.bytes_used + self.engine.bytes_used,
            reader,
            [contacts],
            others,
            self.metrics,
        )
        self.loop = Loop(
            reader, places, intake, self.engine, control, self.table, ledger, self.clock, positions, disk
        )

    def _new_id(self) -> UUID:
        return UUID(int=next(self._ids))

    def release(self, entity: Entity) -> None:
        """Release an entity's lane, as `estarsync lanes resume` does."""
        stop = self.people.words.stopped(entity)
        assert stop is not None
        self.people.say(release_key(entity), Release(stop.id, TIME))

    def close(self) -> None:
        """Let go of everything."""
        self.engine.close()
        self.table.close()
        self.client.close()

    def kill(self) -> None:
        """End the loader as `kill -9` does, and start another."""
        self.close()
        self.start()

    def _handle(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        self._times.append(self.clock.monotonic())
        answer = self._answer(request)
        if answer is None:
            return self.box.handle(request)
        status, body = answer
        if not status:
            raise httpx.ReadTimeout("no answer", request=request)
        return httpx.Response(status, content=b"" if body is None else msgspec.json.encode(body))

    def answer(self, handler: Callable[[httpx.Request], tuple[int, Any] | None]) -> None:
        """Answer calls in the account's place, where the handler gives a status (0: no answer) and a body."""
        self._answer = handler

    def times(self, path: str) -> list[float]:
        """When a path was called."""
        pairs = zip(self.requests, self._times, strict=True)
        return [time for request, time in pairs if request.url.path == path]

    def run(
        self, seconds: float = 60.0, *, until: Callable[[], object] | None = None, pace: float = 0.0
    ) -> None:
        """Turn until everything is settled, or `until` says so; fails where that takes longer than `seconds`.

        With a `pace`, an idle turn takes so many seconds.
        """
        self.topics.pace = pace
        done = until or (lambda: self.idle)
        end = self.clock.monotonic() + seconds
        self.loop.turn()
        while not done():
            assert self.clock.monotonic() < end, f"after {seconds} s: {self.table.counts()}"
            self.loop.turn()

    def turn_for(self, seconds: float) -> None:
        """Turn for so long."""
        end = self.clock.monotonic() + seconds
        self.run(seconds + 1, until=lambda: self.clock.monotonic() >= end)

    @property
    def idle(self) -> bool:
        return self.engine.idle and not self.waiting and self.topics.read and not self.table.recalls(1)

    @property
    def waiting(self) -> int:
        return sum(self.table.counts().values())

    # Its topics

    def publish(
        self,
        entity: Entity,
        key: str,
        payload: bytes | None,
        *,
        sequence: int | None = None,
        lane: Lane = Lane.BULK,
        reason: Reason | None = None,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> int:
        """Write a record to a typed topic; gives its sequence."""
        number = next(self._sequence) if sequence is None else sequence
        facts = EventHeaders(entity, Version(number, 1), lane, "test", TIME, typed=True, reason=reason)
        name = self.settings.topic(typed_topic(entity))
        self.topics.log[name].append(
            Message(
                topic=name,
                partition=0,
                offset=len(self.topics.log[name]),
                key=key.encode(),
                value=payload,
                headers=[*(facts.encode() if headers is None else headers)],
            )
        )
        return number

    def contact(self, email: str, **more: Any) -> int:
        fields: dict[str, Any] = {name: more.pop(name, None) for name in DATA_FIELDS}
        document: dict[str, Any] = {
            "email": email,
            "renamed_from": more.pop("renamed_from", None),
            "data_fields": fields,
            "omitted": more.pop("omitted", []),
        }
        return self.publish(Entity.CONTACTS, email, CODEC.encode(Entity.CONTACTS, document), **more)

    def product(self, sku: str, price: float = 1.0, **more: Any) -> int:
        document = {
            "id": f"id-{sku}",
            "sku": sku,
            "status": "Enabled",
            "name": f"Product {sku}",
            "price": price,
            "specialprice": None,
            "currency": "NZD",
            "image_path": None,
            "brand": None,
            "url": f"https://shop.example/{sku}",
            **more.pop("document", {}),
        }
        return self.publish(Entity.PRODUCTS, sku, CODEC.encode(Entity.PRODUCTS, document), **more)

    def order(self, order_id: str, email: str, total: float = 10.0, **more: Any) -> int:
        document = {
            "id": order_id,
            "email": email,
            "order_total": total,
            "order_subtotal": total,
            "discount_amount": 0.0,
            "delivery_total": 0.0,
            "currency": "NZD",
            "purchase_date": TIME,
            "order_status": "Complete",
            "delivery_method": None,
            "billing_address": None,
            "delivery_address": None,
            "products": [{"name": "x", "sku": "S", "price": total, "qty": 1, "product_id": None}],
            **more.pop("document", {}),
        }
        return self.publish(Entity.ORDERS, order_id, CODEC.encode(Entity.ORDERS, document), **more)

    def tombstone(self, entity: Entity, key: str, reason: Reason = Reason.REMOVED) -> int:
        return self.publish(entity, key, None, reason=reason)

    def written(self, topic: str) -> list[Written]:
        """What the loader has written to a topic."""
        return [each for each in self.producer.records if each.topic == self.settings.topic(topic)]

    def reconciled(self) -> dict[Entity, Comparison]:
        """What `estarsync reconcile` finds."""
        return self.reconciled_and_cure()[0]

    def reconciled_and_cure(
        self, without: Sequence[tuple[Entity, str]] = ()
    ) -> tuple[dict[Entity, Comparison], dict[Entity, list[tuple[str, str]]]]:
        """The same, with what is to be sent again, and some records left out."""
        records = {self.settings.topic(DELIVERED): self.written(DELIVERED)}

        def read(_: object, topics: Sequence[str]) -> Iterator[Message]:
            for topic in topics:
                yield from self.topics.log.get(topic, ())
                for each in records.get(topic, ()):
                    yield Message(topic=topic, partition=0, key=each.key, value=each.value)

        account = existing(self.client, self.settings)
        scope = self.settings.contact_scope
        with closing(
            Reconciler(self.settings, self.client, account, scope, read, without=without)
        ) as reconciler:
            found = {entity: reconciler.compare(entity) for entity in Entity}
            return found, {entity: list(reconciler.differing(entity)) for entity in Entity}

    def _rows(self, topic: str) -> Iterator[tuple[bytes, bytes | None]]:
        return ((each.key or b"", each.value) for each in self.written(topic))

    def imports(self) -> list[dict[str, Any]]:
        """What the loader has written of its imports."""
        return [msgspec.json.decode(each.value or b"") for each in self.written(IMPORTS)]

    def states(self) -> dict[str, dict[str, Any]]:
        """The last settled state of each key, as written; what was taken back is not there."""
        rows = {(each.key or b"").decode(): each.value for each in self.written(DELIVERED)}
        return {key: msgspec.json.decode(value) for key, value in rows.items() if value is not None}

    def attempts(self, entity: Entity, key: str) -> list[tuple[str, str]]:
        """Outcome and code of every attempt to deliver a key."""
        name = f"{entity}:{key}".encode()
        rows = [
            msgspec.json.decode(each.value or b"") for each in self.written(DELIVERIES) if each.key == name
        ]
        return [(row["outcome"], row["code"]) for row in rows]

    def dead_letters(self, entity: Entity) -> dict[str, str]:
        """Code by key of an entity's dead letters."""
        return {
            (each.key or b"").decode(errors="replace"): dict(each.headers)["estarsync.code"].decode()
            for each in self.written(dlq_topic(typed_topic(entity)))
        }

    def counted(self, entity: Entity) -> dict[str, int]:
        """Records by fate, as the metric has them."""
        (family,) = self.metrics.delivered.collect()
        return {
            sample.labels["outcome"]: int(sample.value)
            for sample in family.samples
            if sample.name.endswith("_total") and sample.labels["entity"] == entity and sample.value
        }

    # Its account

    def fault(self, kind: str, **more: Any) -> None:
        """Ask for a fault, once unless `times` says otherwise."""
        self.box.account.faults.ask(FaultRequest(once=(Fault.model_validate({"kind": kind, **more}),)))

    def options(self, **changes: Any) -> None:
        """Change how the account behaves."""
        self.box.account.options = self.box.account.options.model_copy(update=changes)

    def held(self, email: str) -> Contact | None:
        """A contact, as the account holds it."""
        return self.box.account.contacts.find("email", email)

    def delete(self, email: str) -> None:
        """Delete a contact, as somebody at Dotdigital may."""
        request = httpx.Request("DELETE", f"https://r1-api.dotdigital.com/contacts/v3/email/{email}")
        login = httpx.BasicAuth(self.box.account.options.username, self.box.account.options.password)
        assert self.box.handle(next(login.auth_flow(request))).status_code == 200

    def record(self, collection: str, key: str) -> dict[str, Any] | None:
        """An Insight record's document, as the account holds it."""
        found = self.box.account.collection(collection)
        record = None if found is None else found.find(key)
        return None if record is None else msgspec.json.decode(record.json)

    def bodies(self, path: str) -> list[Any]:
        """What was sent to a path, call by call."""
        sent = [each for each in self.requests if each.url.path == path]
        return [msgspec.json.decode(each.content) for each in sent]

    @property
    def violations(self) -> Mapping[str, int]:
        """What the account saw that should not have been."""
        return self.box.account.ledger.by_violation


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Makes loaders with their accounts: `account` are the sandbox's options, the rest are the loader's settings."""
    made: list[Rig] = []

    def make(
        account: Mapping[str, Any] | None = None,
        chunk: int = 1000,
        seed: int = 1,
        folder: Path | None = None,
        write: Write = os.pwrite,
        **settings: Any,
    ) -> Rig:
        options = Options(**(account or {}))
        given = Settings(
            kafka_bootstrap_servers="nowhere:1",
            topic_prefix="t.",
            instance_id="here",
            dotdigital_username=options.username,
            dotdigital_password=options.password,
            **{"loader_linger_seconds": 0.0, **settings},
        )
        made.append(Rig(folder or tmp_path, options, given, chunk, seed, write))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def rig(rigs: Callable[..., Rig]) -> Rig:
    """A loader with its account."""
    return rigs()
