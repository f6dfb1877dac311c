"""The loader on a real Kafka: killed, stopped, fenced, restarted, and started with wrong settings."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from prometheus_client import CollectorRegistry

from estarsync_core.dotdigital.fields import DATA_FIELDS
from estarsync_core.dotdigital.scope import ContactScope
from estarsync_core.entities import Entity, Lane, Reason, Version
from estarsync_core.headers import EventHeaders
from estarsync_core.topics import DELIVERED, IMPORTS, declared_topics, dlq_topic, typed_topic
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.health import Health
from estarsync_runtime.kafka.admin import apply_topics
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.kafka.restore import read_topics
from estarsync_runtime.lifecycle import EXIT_CONFIGURATION, EXIT_FAILED, EXIT_FENCED, EXIT_STOPPED, StopSignal
from estarsync_runtime.metrics import Metrics
from loader.app import GROUP, build
from loader.settings import Settings
from sandbox import processes
from sandbox.asgi import asgi, serving
from sandbox.dotdigital.faults import Fault, FaultRequest
from sandbox.dotdigital.handler import DotdigitalSandbox
from sandbox.dotdigital.options import Options
from sandbox.kafka import Broker, jars, node
from sandbox.kafka.ping import wait_until_up

pytestmark = pytest.mark.kafka

CLOCK = SystemClock()
CODEC = AvroCodec()
TIME = datetime(2026, 1, 1, tzinfo=UTC)


class Account:
    """The sandbox Dotdigital on a port."""

    def __init__(self, box: DotdigitalSandbox, url: str) -> None:
        self.box, self.url = box, url

    def options(self, **changes: Any) -> None:
        self.box.account.options = self.box.account.options.model_copy(update=changes)

    def fault(self, kind: str, **more: Any) -> None:
        self.box.account.faults.ask(FaultRequest(once=(Fault.model_validate({"kind": kind, **more}),)))

    def records(self, collection: str) -> dict[str, Any]:
        with self.box._lock:
            found = self.box.account.collection(collection)
            return {} if found is None else {each.key: msgspec.json.decode(each.json) for each in found.rows}

    @property
    def emails(self) -> set[str]:
        with self.box._lock:
            return {each.email or "" for each in self.box.account.contacts}

    @property
    def imports(self) -> int:
        return sum(self.box.account.jobs.accepted.values())


@pytest.fixture
def account() -> Iterator[Account]:
    box = DotdigitalSandbox(Options(), CLOCK, random.Random(1))  # noqa: S311 - repeatable on purpose
    with serving(asgi(box.handle, parallel=True)) as url:
        yield Account(box, url)


class Typed:
    """What a transformer would do: publishes payloads, a transaction for each call."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._prefix = prefix
        self._sequence = 0
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "transactional.id": f"{prefix}typed",
                "partitioner": "murmur2_random",
            }
        )
        self._producer.init_transactions(30)

    def publish(self, rows: Sequence[tuple[Entity, str, bytes | None]], lane: Lane = Lane.BULK) -> None:
        self._producer.begin_transaction()
        for entity, key, value in rows:
            self._sequence += 1
            reason = Reason.REMOVED if value is None else None
            facts = EventHeaders(
                entity, Version(self._sequence, 1), lane, "test", TIME, typed=True, reason=reason
            )
            topic = self._prefix + typed_topic(entity)
            while True:
                try:
                    self._producer.produce(topic, value, key, headers=[*facts.encode()])
                    break
                except BufferError:
                    self._producer.poll(0.1)
        self._producer.commit_transaction(60)


def contact(email: str, *, subscribed: bool | None = None) -> tuple[Entity, str, bytes]:
    fields = {**dict.fromkeys(DATA_FIELDS), "FIRSTNAME": email[0], "NEWSLETTER_SUBSCRIBE": subscribed}
    document: dict[str, Any] = {"email": email, "renamed_from": None, "data_fields": fields, "omitted": []}
    return Entity.CONTACTS, email, CODEC.encode(Entity.CONTACTS, document)


def product(sku: str, price: float = 1.0) -> tuple[Entity, str, bytes]:
    document = {
        "id": sku,
        "sku": sku,
        "status": "Enabled",
        "name": sku,
        "price": price,
        "specialprice": None,
        "currency": "NZD",
        "image_path": None,
        "brand": None,
        "url": "https://shop.example/x",
    }
    return Entity.PRODUCTS, sku, CODEC.encode(Entity.PRODUCTS, document)


def order(order_id: str, email: str, total: float = 10.0) -> tuple[Entity, str, bytes]:
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
    }
    return Entity.ORDERS, order_id, CODEC.encode(Entity.ORDERS, document)


@pytest.fixture
def typed(kafka: Broker, prefix: str, topics: list[str]) -> Typed:
    assert topics
    return Typed(kafka.bootstrap, prefix)


@pytest.fixture
def environment(kafka: Broker, prefix: str, account: Account, tmp_path: Path) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "TOPIC_PREFIX": prefix,
        "INSTANCE_ID": "here",
        "DATA_DIR": str(tmp_path / "data"),
        "DOTDIGITAL_URL": account.url,
        "DOTDIGITAL_USERNAME": Options().username,
        "DOTDIGITAL_PASSWORD": Options().password,
        "LOADER_LINGER_SECONDS": "0.2",
    }


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    return Settings.model_validate({name.lower(): value for name, value in environment.items()})


@contextmanager
def running(settings: Settings, metrics: Metrics | None = None) -> Iterator[None]:
    """A loader in this process."""
    stop = StopSignal()
    failures: list[BaseException] = []

    def body() -> None:
        try:
            with build(settings, CLOCK, metrics or Metrics(CollectorRegistry())) as loop:
                loop.run(stop, Health(CLOCK))
        except BaseException as error:  # noqa: BLE001 - the test raises it
            failures.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        assert failures == []


class Run:
    """A loader as its users run it, and what it says."""

    def __init__(self, environment: dict[str, str]) -> None:
        command = Path(sys.executable).with_name("loader")
        env = {"PATH": os.environ["PATH"], **environment}
        self.process = subprocess.Popen([command], env=env, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            self.lines.extend(stderr)

    def says(self, word: str) -> bool:
        return any(word in line for line in self.lines)

    def kill(self) -> None:
        self.process.kill()
        self.ended()

    def stop(self) -> int:
        self.process.terminate()
        return self.ended()

    def ended(self, seconds: float = 60) -> int:
        """Its exit code, once it has ended."""
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code


@contextmanager
def process(environment: dict[str, str], **more: str) -> Iterator[Run]:
    run = Run({**environment, **more})
    try:
        yield run
    finally:
        run.kill()


@contextmanager
def supervised(environment: dict[str, str], **more: str) -> Iterator[list[Run]]:
    """A loader that is started again when it ends, as a cluster does it; all of them, the present one last.

    A broker that comes back may call a producer fenced whose transaction it has aborted meanwhile.
    """
    stopped = threading.Event()
    runs = [Run({**environment, **more})]

    def watch() -> None:
        while not stopped.wait(0.2):
            if runs[-1].process.poll() in {EXIT_FAILED, EXIT_FENCED}:
                runs.append(Run({**environment, **more}))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield runs
    finally:
        stopped.set()
        watcher.join()
        for run in runs:
            run.kill()


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = CLOCK.monotonic() + seconds
    while not condition():
        assert CLOCK.monotonic() < deadline, "it did not happen in time"
        CLOCK.sleep(0.1)


def ends_and_commits(settings: Settings) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int], int]]:
    """Where the typed topics end, and what the loader has committed."""
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": f"{settings.topic_prefix}{GROUP}"}
    )
    try:
        names = [settings.topic(typed_topic(entity)) for entity in Entity]
        places = [TopicPartition(name, number) for name in names for number in range(6)]
        ends = {(each.topic, each.partition): consumer.get_watermark_offsets(each, 10)[1] for each in places}
        commits = {
            (each.topic, each.partition): max(0, each.offset) for each in consumer.committed(places, 10)
        }
        return ends, commits
    finally:
        consumer.close()


def all_committed(settings: Settings) -> bool:
    try:
        ends, commits = ends_and_commits(settings)
    except KafkaException:  # a broker that has just started
        return False
    return ends == commits


def values(settings: Settings, topic: str) -> list[dict[str, Any]]:
    messages = read_topics(settings, [settings.topic(topic)])
    return [msgspec.json.decode(message.value() or b"") for message in messages]


def test_everything_is_delivered_and_committed_and_a_restart_delivers_nothing_again(
    settings: Settings, typed: Typed, account: Account
) -> None:
    typed.publish([contact(f"c{number}@shop.example") for number in range(300)])
    typed.publish([product(f"p{number}") for number in range(200)])
    typed.publish([order(f"O-{number}", f"c{number}@shop.example") for number in range(400)])
    with running(settings):
        until(lambda: len(account.records("orders")) == 400 and len(account.records("catalog_estar")) == 200)
        until(lambda: all_committed(settings))
    assert len(account.emails) == 400
    imports = account.imports
    assert {row["state"] for row in values(settings, IMPORTS)} == {"intent", "accepted", "closed"}
    assert len(values(settings, DELIVERED)) == 300 + 200 + 400 + 100
    with running(settings):
        CLOCK.sleep(3)
        typed.publish([product("p1"), product("p2", 2.0)])
        until(lambda: account.records("catalog_estar")["p2"]["price"] == 2.0)
        until(lambda: all_committed(settings))
    assert account.imports == imports + 1
    assert account.box.account.ledger.by_violation == {}


def test_who_subscribes_later_gets_the_orders_that_were_left_out(
    settings: Settings, typed: Typed, account: Account
) -> None:
    narrow = settings.model_copy(update={"contact_scope": ContactScope.SUBSCRIBED})
    typed.publish([contact(f"c{number}@shop.example", subscribed=False) for number in range(5)])
    for version in (1.0, 2.0):
        typed.publish([order(f"O-{number}", f"c{number % 5}@shop.example", version) for number in range(200)])
    with running(narrow):
        until(lambda: all_committed(settings))
    assert account.emails == set()
    with running(narrow):
        typed.publish([contact("c3@shop.example", subscribed=True)])
        until(lambda: len(account.records("orders")) == 40)
        until(lambda: all_committed(settings))
    assert account.emails == {"c3@shop.example"}
    assert {each["order_total"] for each in account.records("orders").values()} == {2.0}
    with running(settings):  # every contact is in scope now
        until(lambda: len(account.records("orders")) == 200)
    assert len(account.emails) == 5
    assert account.box.account.ledger.by_violation == {}


def test_an_undecodable_payload_is_a_dead_letter_with_its_bytes(
    settings: Settings, typed: Typed, account: Account
) -> None:
    typed.publish([(Entity.ORDERS, "broken", b"\xc3\x01no avro"), product("fine")])
    with running(settings):
        until(lambda: all_committed(settings) and account.records("catalog_estar"))
    (letter,) = read_topics(settings, [settings.topic(dlq_topic(typed_topic(Entity.ORDERS)))])
    headers = dict(headers_of(letter))
    assert (letter.key(), letter.value()) == (b"broken", b"\xc3\x01no avro")
    assert headers["__connect.errors.topic"] == settings.topic(typed_topic(Entity.ORDERS)).encode()
    assert headers["__connect.errors.connector.name"] == b"loader"
    assert headers["estarsync.field"] == b"value"
    assert headers["ce_sequence"] == b"1"


@pytest.mark.parametrize("moment", [pytest.param(0.5, marks=pytest.mark.long), 2.0])
def test_a_killed_loader_loses_nothing_and_sends_no_key_twice_at_once(
    settings: Settings,
    environment: dict[str, str],
    typed: Typed,
    account: Account,
    moment: float,
) -> None:
    account.options(import_seconds=2.0, import_shuffle=0.5)
    fast = {"LOADER_BATCH_RECORDS": "50", "LOADER_SETTLE_SECONDS": "8"}
    typed.publish([contact(f"c{number}@shop.example") for number in range(300)])
    typed.publish([product(f"p{number}") for number in range(300)])
    typed.publish([order(f"O-{number}", f"c{number}@shop.example") for number in range(500)])
    with process(environment, **fast) as first:
        until(lambda: account.imports)
        CLOCK.sleep(moment)
        first.kill()
    typed.publish([product(f"p{number}", 2.0) for number in range(300)])
    with process(environment, **fast):
        until(lambda: all_committed(settings), 120)
    assert len(account.records("orders")) == 500
    assert {each["price"] for each in account.records("catalog_estar").values()} == {2.0}
    assert len(account.emails) == 500
    assert account.box.account.ledger.by_violation == {}


@pytest.fixture
def pair(environment: dict[str, str], typed: Typed, account: Account) -> Iterator[tuple[Run, Run]]:
    """An active loader, which has delivered something, and one that stands by."""
    with process(environment) as active, ExitStack() as stack:
        until(lambda: active.says('"ready"'))
        standby = stack.enter_context(process(environment, INSTANCE_ID="there"))
        until(lambda: standby.says("standing_by"))
        typed.publish([product(f"p{number}") for number in range(20)])
        until(lambda: len(account.records("catalog_estar")) == 20)
        assert not standby.says('"ready"')
        assert active.process.poll() is None
        yield active, standby


def test_a_standby_takes_over_from_a_killed_loader_within_seconds(
    pair: tuple[Run, Run], settings: Settings, typed: Typed, account: Account
) -> None:
    active, standby = pair
    imports = account.imports
    active.kill()
    began = CLOCK.monotonic()
    typed.publish([product("p1", 2.0)])
    until(lambda: account.records("catalog_estar")["p1"]["price"] == 2.0)
    # 15 s are promised; 8 of them are Kafka's, and a busy machine may take a few more.
    assert CLOCK.monotonic() - began < 25
    until(lambda: all_committed(settings))
    assert account.imports == imports + 1  # what was delivered before is not sent again
    assert standby.stop() == EXIT_STOPPED
    assert account.box.account.ledger.by_violation == {}


@pytest.mark.long
def test_a_standby_takes_over_at_once_from_a_loader_that_stops(
    pair: tuple[Run, Run], typed: Typed, account: Account
) -> None:
    active, standby = pair
    assert active.stop() == EXIT_STOPPED
    typed.publish([product("p1", 2.0)])
    until(lambda: account.records("catalog_estar")["p1"]["price"] == 2.0)
    assert standby.process.poll() is None


def test_a_frozen_loader_that_comes_back_late_sends_nothing(
    pair: tuple[Run, Run], typed: Typed, account: Account
) -> None:
    active, standby = pair
    active.process.send_signal(signal.SIGSTOP)
    typed.publish([product("p1", 2.0)])
    until(lambda: account.records("catalog_estar")["p1"]["price"] == 2.0)
    imports = account.imports
    active.process.send_signal(signal.SIGCONT)
    assert active.ended(30) == EXIT_FENCED
    assert account.imports == imports
    typed.publish([product("p1", 3.0)])
    until(lambda: account.records("catalog_estar")["p1"]["price"] == 3.0)
    assert standby.stop() == EXIT_STOPPED
    assert account.box.account.ledger.by_violation == {}


@pytest.mark.long
def test_a_standby_that_is_told_to_stop_ends(pair: tuple[Run, Run]) -> None:
    _, standby = pair
    assert standby.stop() == EXIT_STOPPED


def test_a_loader_that_is_told_to_stop_ends_soon_although_an_answer_is_slow(
    settings: Settings, environment: dict[str, str], typed: Typed, account: Account, tmp_path: Path
) -> None:
    account.fault("slow", path="/insightData/v3/import", seconds=40.0)
    typed.publish([product("p1")])
    with process(environment, LOADER_SETTLE_SECONDS="1") as first:
        until(lambda: account.imports)
        began = CLOCK.monotonic()
        assert first.stop() == EXIT_STOPPED
        assert CLOCK.monotonic() - began < 15
    assert list((tmp_path / "data").iterdir()) == []
    with process(environment, LOADER_SETTLE_SECONDS="1"):
        until(lambda: all_committed(settings))


def test_nothing_of_a_shopper_is_left_by_a_killed_loader(
    environment: dict[str, str], typed: Typed, account: Account, tmp_path: Path
) -> None:
    account.options(import_seconds=60.0)
    typed.publish([contact(f"c{number}@shop.example") for number in range(500)])
    with process(environment) as first:
        until(lambda: account.imports)
        first.kill()
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.skipif("KAFKA_BOOTSTRAP_SERVERS" in os.environ, reason="the broker is somebody else's")
@pytest.mark.long
@pytest.mark.parametrize("outage", ["paused", "restarted"])
def test_a_broker_that_is_away_for_a_while_costs_nothing(
    kafka: Broker, account: Account, environment: dict[str, str], tmp_path: Path, outage: str
) -> None:
    java = jars.java_command(os.environ)
    if kafka.kind != "maven" or java is None:
        pytest.skip("only a broker from jars can be paused and restarted here")
    with ExitStack() as stack:
        folder = stack.enter_context(node.temporary_folder(tmp_path))
        bootstrap = f"127.0.0.1:{processes.free_port()}"
        broker = node._start(java, jars.cached_jars(os.environ), folder, bootstrap)
        stack.callback(lambda: processes.stop(broker, 5))
        assert wait_until_up(bootstrap, 60, CLOCK, broker.alive)
        apply_topics({"bootstrap.servers": bootstrap}, declared_topics(), "", replication=1, timeout=30)
        environment |= {
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "TOPIC_PREFIX": "",
            "LOADER_BATCH_RECORDS": "20",
        }
        settings = Settings.model_validate({name.lower(): value for name, value in environment.items()})
        account.options(import_seconds=0.5)
        typed = Typed(bootstrap, "")
        typed.publish([product(f"p{number}") for number in range(500)])
        runs = stack.enter_context(supervised(environment, LOADER_SETTLE_SECONDS="5"))
        until(lambda: account.imports > 3)
        command = Path(f"/proc/{broker.pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        if outage == "paused":
            os.kill(broker.pid, signal.SIGSTOP)
            CLOCK.sleep(4)
            os.kill(broker.pid, signal.SIGCONT)
        else:
            os.kill(broker.pid, signal.SIGKILL)
            broker.wait(10)
            broker = processes.start("kafka", command, os.environ, folder / "again.log")
        typed.publish([order(f"O-{number}", f"c{number}@shop.example") for number in range(100)])
        until(
            lambda: len(account.records("orders")) == 100 and len(account.records("catalog_estar")) == 500,
            120,
        )
        until(lambda: all_committed(settings), 120)
        assert runs[-1].stop() == EXIT_STOPPED
        assert len(runs) <= 2, [run.lines[-1] for run in runs]
    assert account.box.account.ledger.by_violation == {}


# Wrong at the start


@pytest.fixture
def dead_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


@pytest.mark.usefixtures("topics")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"DOTDIGITAL_USERNAME": None}, ["DOTDIGITAL_USERNAME is not set"]),
        ({"DOTDIGITAL_PASSWORD": "wrong"}, ["DOTDIGITAL_USERNAME and DOTDIGITAL_PASSWORD"]),
        ({"DOTDIGITAL_URL": "http://127.0.0.1:{port}"}, ["does not answer at http://127.0.0.1:{port}"]),
        ({"DOTDIGITAL_URL": "dotdigital"}, ["DOTDIGITAL_URL", "not a URL"]),
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:{port}"}, ["KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{port}"]),
        ({"TOPIC_PREFIX": "elsewhere."}, ["estarsync topics apply"]),
        ({"LOADER_CONTACT_SLOTS": "26"}, ["LOADER_CONTACT_SLOTS"]),
        ({"DATA_DIR": "/proc/nowhere"}, ["DATA_DIR: cannot create"]),
        ({"HTTP_PORT": "{port}"}, []),
    ],
)
def test_a_wrong_start_is_said_in_plain_lines(
    environment: dict[str, str], dead_port: str, change: dict[str, str | None], words: list[str]
) -> None:
    given = dict(environment)
    for name, value in change.items():
        given.pop(name, None)
        if value is not None:
            given[name] = value.replace("{port}", dead_port)
    with ExitStack() as stack:
        if not words:  # the port is in use
            stack.enter_context(socket.create_server(("127.0.0.1", int(dead_port))))
            words = ["HTTP_PORT: cannot listen"]
        loader = stack.enter_context(process(given))
        assert loader.ended() == EXIT_CONFIGURATION
    said = [line for line in loader.lines if line.startswith("loader: ")]
    assert len(said) == (10 if "TOPIC_PREFIX" in change else 1)
    assert not loader.says("Traceback")
    for word in words:
        assert word.replace("{port}", dead_port) in "".join(said)
