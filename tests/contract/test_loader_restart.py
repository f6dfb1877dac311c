"""What an earlier loader has left behind is finished: nothing is lost, no key is in two open imports."""

import random
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError, Message

from estarsync_core.entities import Entity, Lane
from estarsync_core.errors import Fenced, RetryLater, Stop
from estarsync_core.keys import record_key
from estarsync_runtime.health import Health
from estarsync_runtime.kafka.errors import TransactionAborted
from estarsync_runtime.lifecycle import StopSignal
from sandbox.dotdigital.faults import FaultRequest

CONTACT_IMPORT, INSIGHT_IMPORT = "/contacts/v3/import", "/insightData/v3/import"


class Killed(BaseException):
    """The end of a process, at a certain place."""


def killed_at(rig, state: str) -> None:
    """Run until the loader is about to write that state of an import, and kill it just before."""
    produce = rig.producer.produce

    def watched(topic: str, key: bytes, value: bytes, headers: object = None) -> None:
        if topic.endswith("imports.v1") and f'"state":"{state}"'.encode() in value:
            raise Killed
        produce(topic, key, value, headers)

    rig.producer.produce = watched
    with pytest.raises(Killed):
        rig.run(300)
    rig.producer.produce = produce
    rig.kill()


@pytest.mark.parametrize("state", ["intent", "accepted", "closed"])
@pytest.mark.parametrize("seconds", [0.2, 25.0])
def test_a_killed_loaders_import_is_finished_by_the_next_one(rigs, state, seconds):
    rig = rigs({"import_seconds": seconds, "import_shuffle": 0.0})
    rig.product("A", price=1.0)
    rig.order("O-1", "guest@shop.example")
    killed_at(rig, state)
    rig.product("A", price=2.0)
    rig.run(600)
    assert rig.record("catalog_estar", "A")["price"] == 2.0
    assert rig.record("orders", "O-1") is not None
    assert rig.violations == {}


def test_a_loader_killed_before_the_put_leaves_the_fence_standing(rig):
    rig.calls.start = lambda *_: None
    rig.product("A")
    rig.turn_for(1)
    rig.kill()
    rig.turn_for(50)
    assert rig.bodies(INSIGHT_IMPORT) == []
    rig.run(100)
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1}


def test_the_settling_time_is_twice_the_longest_import_even_after_a_restart(rigs):
    rig = rigs({"import_seconds": 100.0, "import_shuffle": 0.0})
    rig.product("A")
    rig.run(300, pace=1.0)
    rig.product("B")
    killed_at(rig, "accepted")
    rig.product("B", price=2.0)
    rig.run(900, pace=1.0)
    first, second = rig.times(INSIGHT_IMPORT)[1:]
    assert second - first >= 200
    assert rig.violations == {}


def test_a_restart_delivers_nothing_again(rig):
    for number in range(20):
        rig.contact(f"c{number}@shop.example")
        rig.order(f"O-{number}", f"g{number}@shop.example")
    rig.run()
    rig.turn_for(2)
    before = len([each for each in rig.requests if each.method == "PUT"])
    rig.kill()
    rig.turn_for(10)
    rig.producer.offsets.clear()
    rig.kill()  # this one reads everything again
    rig.turn_for(10)
    assert len([each for each in rig.requests if each.method == "PUT"]) == before
    assert rig.counted(Entity.CONTACTS) == {"superseded": 20}


def test_a_refusal_in_a_restored_report_is_no_loss(rigs):
    rig = rigs({"globally_suppressed": frozenset({"bad@shop.example"}), "import_seconds": 5.0})
    rig.contact("bad@shop.example")
    rig.contact("good@shop.example")
    rig.run(until=lambda: rig.engine._batches and rig.imports()[-1]["state"] == "accepted")
    rig.kill()
    rig.clock.advance(10)
    rig.engine.step(contacts_read=False)  # the report comes before the record is read again
    rig.engine.step(contacts_read=False)
    assert rig.dead_letters(Entity.CONTACTS) == {}
    rig.run()
    assert rig.dead_letters(Entity.CONTACTS) == {"bad@shop.example": "GloballySuppressed"}
    assert rig.states()["contacts:good@shop.example"]["outcome"] == "delivered"


def test_a_restored_deletion_is_made_again(rig):
    rig.product("A")
    rig.run()
    rig.tombstone(Entity.PRODUCTS, "A")
    killed_at(rig, "closed")
    rig.run(200)
    assert rig.states()["products:A"]["outcome"] == "removed"


@pytest.mark.parametrize("kind", ["import_failed", "import_vanishes"])
def test_a_restored_import_that_came_to_nothing_is_made_again(rigs, kind):
    rig = rigs({"import_seconds": 5.0})
    rig.fault(kind)
    rig.product("A")
    rig.run(until=lambda: rig.imports() and rig.imports()[-1]["state"] == "accepted")
    rig.kill()
    rig.run(300)
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1}
    assert rig.violations == {}


def test_a_lost_reply_is_remembered_over_a_restart(rigs):
    rig = rigs({"import_seconds": 30.0, "import_shuffle": 0.0})
    rig.fault("drop_after", path=INSIGHT_IMPORT)
    rig.product("A")
    rig.run(until=lambda: rig.imports() and rig.imports()[-1]["state"] == "accepted")
    rig.kill()
    rig.product("A", price=2.0)
    rig.run(600)
    times = rig.times(INSIGHT_IMPORT)
    assert times[-1] - times[-2] >= 90
    assert rig.violations == {}


def test_an_import_that_was_sent_again_after_a_failure_is_not_mistaken_for_the_failed_one(rigs):
    rig = rigs({"import_seconds": 20.0, "import_shuffle": 0.0})
    rig.fault("import_failed")
    rig.product("A")
    rig.run(until=lambda: len(rig.bodies(INSIGHT_IMPORT)) == 1)
    killed_at(rig, "accepted")  # of the second import
    rig.product("A", price=2.0)
    rig.run(600)
    assert rig.violations == {}
    assert rig.record("catalog_estar", "A")["price"] == 2.0


def test_a_newer_loader_ends_the_older_one(rig):
    rig.product("A")
    rig.producer.failures.append(Fenced("taken over"))
    with pytest.raises(Fenced):
        rig.run()
    assert rig.bodies(INSIGHT_IMPORT) == []


def test_an_idle_loader_notices_that_it_was_taken_over(rig):
    rig.product("A")
    rig.run()
    rig.turn_for(2)
    rig.producer.failures.append(Fenced("taken over"))
    with pytest.raises(Fenced):
        rig.turn_for(10)


def test_a_loader_that_was_held_up_asks_before_it_sends(rig):
    rig.options(insight_import_slots=0)
    rig.product("A")
    rig.run(until=lambda: rig.bodies(INSIGHT_IMPORT))
    sent = len(rig.bodies(INSIGHT_IMPORT))
    rig.clock.advance(300)  # it was stopped, and another has taken over
    rig.producer.failures.append(Fenced("taken over"))
    with pytest.raises(Fenced):
        rig.turn_for(1)
    assert len(rig.bodies(INSIGHT_IMPORT)) == sent


def test_a_ticket_that_grew_old_in_a_stopped_process_sends_nothing(rig):
    start = rig.calls.start

    def stopped(batch, call) -> None:
        rig.calls.start = start
        rig.clock.advance(300)
        start(batch, call)

    rig.calls.start = stopped
    rig.product("A")
    rig.run(until=lambda: rig.clock.monotonic() >= 300)
    assert rig.bodies(INSIGHT_IMPORT) == []
    rig.run()
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1}


def test_a_transaction_that_kafka_rolls_back_is_written_again(rig):
    rig.product("A")
    rig.producer.failures.append(TransactionAborted("rolled back"))
    rig.run()
    assert [row["state"] for row in rig.imports()] == ["intent", "accepted", "closed"]
    assert rig.violations == {}


def test_a_kafka_that_rolls_back_twice_ends_the_loader_and_the_next_goes_on(rig):
    rig.product("A")
    rig.producer.failures += [TransactionAborted("rolled back")] * 2
    with pytest.raises(RetryLater):
        rig.run()
    rig.kill()
    rig.run()
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1}


def test_errors_of_the_consumer_pass_or_stop(rig):
    name = "t.dotdigital.products.v1"

    def error(code: int) -> Message:
        return Message(topic=name, partition=0, error=KafkaError(code))

    consume = rig.topics.consume
    rig.product("A")
    for code in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError.LEADER_NOT_AVAILABLE):
        rig.topics.consume = lambda *_, code=code: [error(code)]
        rig.loop.turn()
    rig.topics.consume = consume
    rig.run()
    rig.topics.consume = lambda *_: [error(KafkaError.UNKNOWN_TOPIC_OR_PART)]
    with pytest.raises(Stop, match="topics are there"):
        rig.loop.turn()


def test_a_loader_that_is_told_to_stop_waits_for_open_calls_and_commits(rig):
    stop, health = StopSignal(), Health(rig.clock)
    rig.product("A")
    rig.run(until=rig.imports)
    rig.calls.held = True
    rig.run(until=lambda: rig.engine.calling)
    stop.set()
    began = rig.clock.monotonic()
    rig.loop.run(stop, health)
    assert rig.engine.calling
    assert rig.clock.monotonic() - began <= 11
    rig.calls.held = False
    rig.loop.run(stop, health)
    assert rig.imports()[-1]["state"] == "accepted"
    assert rig.producer.offsets["t.dotdigital.products.v1", 0] == 0


# Everything at once


def publisher(rig, rng: random.Random) -> Callable[[], None]:
    """Publishes a random record at each call; what must be there in the end is in `wanted`."""
    rig.wanted = {}
    emails = [f"c{number}@shop.example" for number in range(12)]
    owners = rig.owners = {}

    def publish() -> None:
        lane = rng.choice([Lane.LIVE, Lane.BULK])
        kind, price = (
            rng.choice(["contact", "product", "product", "order", "order", "gone"]),
            rng.randint(1, 9),
        )
        if kind == "contact":
            email = rng.choice(emails)
            rig.contact(email, FIRSTNAME=str(price), lane=lane)
            rig.wanted["contact", email] = str(price)
        elif kind == "product":
            sku = f"sku {rng.randint(1, 12)}"
            rig.product(sku, price=float(price), lane=lane)
            rig.wanted["product", sku] = float(price)
        elif kind == "order":
            name = f"O-{rng.randint(1, 20)}"
            email = owners.setdefault(name, rng.choice([*emails, "guest@shop.example"]))
            rig.order(name, email, total=float(price), lane=lane)
            rig.wanted["order", name] = float(price)
        else:
            entity, word, name = rng.choice(
                [
                    (Entity.PRODUCTS, "product", f"sku {rng.randint(1, 12)}"),
                    (Entity.ORDERS, "order", f"O-{rng.randint(1, 20)}"),
                ]
            )
            rig.tombstone(entity, name)
            rig.wanted.pop((word, name), None)

    return publish


def agrees(rig) -> None:
    """The account holds the latest version of everything, and nothing else."""
    account = rig.box.account
    contacts = {each.email: each.fields.get("FIRSTNAME") for each in account.contacts}
    held = {("contact", email): name for email, name in contacts.items()}
    for word, name, value in (("product", "catalog_estar", "price"), ("order", "orders", "order_total")):
        for record in account.collection(name).rows:
            held[word, record.key] = rig.record(name, record.key)[value]
    wanted = {
        (word, name if word == "contact" else record_key(name)): value
        for (word, name), value in rig.wanted.items()
    }
    for word, name in rig.wanted:
        if word == "order":
            wanted.setdefault(("contact", rig.owners[name]), None)
    for key, value in wanted.items():
        assert held.pop(key) == value, key
    assert {key for key in held if key[0] != "contact"} == set()


FAULTS = {
    "http_500": 0.03,
    "http_503": 0.03,
    "drop_before": 0.03,
    "drop_after": 0.05,
    "quota_storm": 0.002,
    "import_failed": 0.03,
    "import_vanishes": 0.02,
    "import_report_omits": 0.05,
}


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_the_account_ends_equal_to_the_latest_versions(rigs, seed):
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    rig = rigs(
        {"import_seconds": rng.choice([0.2, 2.0, 15.0]), "import_shuffle": 0.9},
        loader_batch_records=rng.choice([2, 7, 100]),
        loader_settle_seconds=60.0,
    )
    publish = publisher(rig, rng)
    rig.box.account.faults.ask(FaultRequest(probabilities=FAULTS))
    for _ in range(60):
        for _ in range(rng.randint(0, 8)):
            publish()
        if rng.random() < 0.2:
            rig.producer.failures += [TransactionAborted("rolled back")] * rng.choice([1, 1, 2])
        killed = rng.random() < 0.1
        try:
            rig.turn_for(rng.choice([0.05, 0.5, 3.0]))
        except RetryLater:
            killed = True
        if killed:
            rig.producer.failures.clear()
            rig.box.account.faults.ask(FaultRequest(clear=True))
            rig.kill()
            rig.box.account.faults.ask(FaultRequest(probabilities=FAULTS))
    rig.box.account.faults.ask(FaultRequest(clear=True))
    rig.producer.failures.clear()
    rig.run(3 * 3600, pace=0.5)
    rig.turn_for(3)
    agrees(rig)
    assert set(rig.violations) <= {"call_answered_429"}  # the storms
    for name, log in rig.topics.log.items():
        assert rig.producer.offsets[name, 0] == len(log)
