"""Batches are spooled to disk, and calls run beside the main loop."""

import gc
import hashlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from estarsync_core.entities import Entity, Lane, Version
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.dotdigital.client import Answer
from estarsync_runtime.dotdigital.provisioning import Account
from loader.batches import Batch, Kind, Spooler, State, content_hash
from loader.calls import ThreadedCalls
from loader.fences import Fences
from loader.records import BARE, Pending

CODEC = AvroCodec()
ACCOUNT = Account(7, "orders", "catalog_estar")


def spooler(folder: Path, max_bytes: int = 45_000_000) -> Spooler:
    return Spooler(folder, ACCOUNT, CODEC, max_bytes)


def built(make: Spooler, rows: Iterable[Pending]) -> Batch:
    batch = make.build("b", rows)
    assert batch is not None
    return batch


def product(sku: str) -> Pending:
    document = {
        "id": sku,
        "sku": sku,
        "status": "Enabled",
        "name": sku,
        "price": 1.0,
        "specialprice": None,
        "currency": "NZD",
        "image_path": None,
        "brand": None,
        "url": "https://shop.example/x",
    }
    payload = CODEC.encode(Entity.PRODUCTS, document)
    return Pending(Entity.PRODUCTS, sku, Version(1, 1), Lane.BULK, payload)


def tombstone(entity: Entity, key: str, email: str | None = None) -> Pending:
    return Pending(entity, key, Version(2, 1), Lane.BULK, None, email=email)


def test_a_batch_is_a_body_of_its_size_that_can_be_read_over_and_over(tmp_path):
    batch = built(spooler(tmp_path), iter([product("A"), product("B")]))
    body = b"".join(batch.chunks())
    assert len(body) == batch.size
    assert body == b"".join(batch.chunks())
    assert [record["key"] for record in msgspec.json.decode(body)["records"]] == ["A", "B"]
    assert [fence.key for fence in batch.fences] == ["A", "B"]
    assert next(iter(batch.fences)).hash == content_hash(product("A").payload)
    assert (batch.kind, batch.operation, batch.path) == (
        Kind.IMPORT,
        "insight_import",
        "/insightData/v3/import",
    )
    assert list(tmp_path.iterdir()) == []
    batch.discard()
    with pytest.raises(ValueError, match="no body"):
        next(batch.chunks())


def test_the_digest_is_of_the_rows(tmp_path):
    make = spooler(tmp_path)
    first, second = (built(make, [product("A")]) for _ in range(2))
    assert first.digest == second.digest != hashlib.sha256().hexdigest()
    first.discard()
    second.discard()


def test_no_more_goes_in_than_fits_and_one_record_always_goes_in(tmp_path):
    whole = built(spooler(tmp_path), [product("A"), product("B"), product("C")])
    exact = built(spooler(tmp_path, whole.size), [product("A"), product("B"), product("C")])
    less = built(spooler(tmp_path, whole.size - 1), [product("A"), product("B"), product("C")])
    least = built(spooler(tmp_path, 1), [product("A"), product("B")])
    assert [len(batch.fences) for batch in (whole, exact, less, least)] == [3, 3, 2, 1]
    for batch in (whole, exact, less, least):
        assert len(b"".join(batch.chunks())) == batch.size
        batch.discard()


def test_records_are_not_held_in_memory(tmp_path):
    alive: list[int] = []

    def records() -> Iterator[Pending]:
        for number in range(5):
            alive.append(sum(isinstance(each, Pending) for each in gc.get_objects()))
            yield product(str(number))

    batch = built(spooler(tmp_path), records())
    assert len(batch.fences) == 5
    assert max(alive) <= 2
    batch.discard()


def test_deletions_and_imports_are_not_mixed(tmp_path):
    make = spooler(tmp_path)
    rows = [tombstone(Entity.PRODUCTS, "a b"), product("B"), tombstone(Entity.PRODUCTS, "C")]
    batch = built(make, rows)
    assert batch.kind is Kind.DELETE
    assert batch.path == "/insightData/v3/accounts/catalog_estar/deleteRecords"
    assert msgspec.json.decode(b"".join(batch.chunks()))["keys"][0].startswith("a_b-")
    assert [fence.key for fence in batch.fences] == ["a b", "C"]
    batch.discard()
    orders = [
        tombstone(Entity.ORDERS, "O/1", "a+b@shop.example"),
        tombstone(Entity.ORDERS, "O-2", "c@shop.example"),
    ]
    batch = built(make, orders)
    assert batch.path.startswith("/insightData/v3/contacts/email/a%2Bb%40shop.example/orders/O_1-")
    assert len(batch.fences) == 1
    assert batch.operation == "delete_order"
    batch.discard()
    assert make.build("b", []) is None


def test_a_bare_contact_goes_with_the_others(tmp_path):
    bare = Pending(Entity.CONTACTS, "g@shop.example", BARE, Lane.BULK, None, bare=True)
    batch = built(spooler(tmp_path), [bare])
    body = msgspec.json.decode(b"".join(batch.chunks()))
    assert body == {
        "mergeOption": "overwrite",
        "contacts": [{"matchIdentifier": "email", "identifiers": {"email": "g@shop.example"}, "lists": [7]}],
    }
    batch.discard()


def test_a_report_is_asked_for_where_it_is():
    batch = Batch("b", Entity.CONTACTS, Kind.IMPORT, Fences(), import_id="a/b")
    assert (batch.status_operation, batch.status_path) == (
        "contact_import_status",
        "/contacts/v3/import/a%2Fb",
    )
    batch = Batch("b", Entity.ORDERS, Kind.IMPORT, Fences(), import_id="1")
    assert batch.status_path == "/insightData/v3/import/1"


@pytest.mark.parametrize(
    ("kind", "state", "lost", "holds"),
    [
        (Kind.IMPORT, State.TO_SEND, False, False),
        (Kind.IMPORT, State.TO_SEND, True, True),
        (Kind.IMPORT, State.SENDING, False, True),
        (Kind.IMPORT, State.SETTLING, False, True),
        (Kind.DELETE, State.SENDING, False, False),
    ],
)
def test_what_holds_a_slot(kind, state, lost, holds):
    assert Batch("b", Entity.CONTACTS, kind, Fences(), state=state, lost=lost).holds_slot is holds


def batch_named(name: str) -> Batch:
    return Batch(name, Entity.ORDERS, Kind.IMPORT, Fences())


def collect(calls: ThreadedCalls, count: int) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    clock = SystemClock()
    end = clock.monotonic() + 10
    while len(found) < count:
        assert clock.monotonic() < end
        found += [(batch.id, answer.status) for batch, answer in calls.answers()]
        clock.sleep(0.001)
    return found


def test_a_slow_call_holds_up_no_other():
    calls, go_on = ThreadedCalls(2), threading.Event()

    def slow() -> Answer:
        go_on.wait(10)
        return Answer(200, "", None)

    calls.start(batch_named("slow"), slow)
    calls.start(batch_named("quick"), lambda: Answer(202, "", None))
    assert collect(calls, 1) == [("quick", 202)]
    go_on.set()
    assert collect(calls, 1) == [("slow", 200)]
    calls.close()
    for thread in calls._threads:
        thread.join(10)
        assert thread.daemon  # a call that hangs does not keep the process from ending


def test_what_a_call_raises_reaches_the_main_loop():
    calls = ThreadedCalls(1)

    def broken() -> Answer:
        raise ZeroDivisionError

    calls.start(batch_named("b"), broken)
    with pytest.raises(ZeroDivisionError):
        collect(calls, 1)
    calls.close()
