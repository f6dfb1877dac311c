"""What goes into a batch, and when it is full enough."""

import os
from collections.abc import Callable, Iterator
from errno import ENOSPC
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from estarsync_core.entities import Entity, Lane, Version
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.dotdigital.provisioning import Account
from estarsync_runtime.testing import FakeClock
from loader.batches import Batch, Kind, Spooler, State, Write
from loader.filler import Filler
from loader.records import Pending
from loader.settings import Settings
from loader.slots import Slots
from loader.table import Table

CODEC = AvroCodec()
LIVE, BULK = Lane.LIVE, Lane.BULK
PRODUCTS, CONTACTS = Entity.PRODUCTS, Entity.CONTACTS


class Quota:
    """In place of the client: what it says of the quota."""

    def __init__(self) -> None:
        self.interval_seconds = 1.0
        self.waits = {False: 0.0, True: 0.0}  # by whether a call must be left for what is urgent

    def interval(self, _: str) -> float:
        return self.interval_seconds

    def delay(self, _: str, *, spare: bool = False) -> float:
        return self.waits[spare]


class Lanes:
    """In place of the lanes: which are stopped."""

    def __init__(self) -> None:
        self.without: set[Entity] = set()

    def stopped(self, entity: Entity) -> bool:
        return entity in self.without


class Bench:
    """A filler with its table, quota and clock."""

    def __init__(self, folder: Path, chunk: int, max_bytes: int, write: Write, **settings: Any) -> None:
        given = {"dotdigital_username": "u", "dotdigital_password": "p", "loader_linger_seconds": 1.0}
        self.settings = Settings(kafka_bootstrap_servers="nowhere:1", **{**given, **settings})
        self.clock, self.quota, self.lanes = FakeClock(), Quota(), Lanes()
        self.table = Table(folder)
        self.batches: dict[str, Batch] = {}
        spooler = Spooler(folder, Account(7, "orders", "catalog_estar"), CODEC, max_bytes, chunk, write)
        self.slots = Slots(self.settings, self.batches.values(), self.lanes, self.clock)  # type: ignore[arg-type]
        numbers = count(1)
        self.filler = Filler(
            self.settings,
            self.table,
            spooler,
            self.slots,
            self.quota,  # type: ignore[arg-type]
            self.lanes,  # type: ignore[arg-type]
            self.batches,
            lambda: UUID(int=next(numbers)),
        )
        self._sequence = count(1)

    def close(self) -> None:
        for batch in self.batches.values():
            batch.close()
        self.table.close()

    def product(self, sku: str, lane: Lane = BULK, *, gone: bool = False) -> None:
        document = dict.fromkeys(("specialprice", "image_path", "brand"))
        document |= {
            "id": sku,
            "sku": sku,
            "status": "Enabled",
            "name": sku,
            "price": 1.0,
            "currency": "NZD",
            "url": sku,
        }
        payload = None if gone else CODEC.encode(PRODUCTS, document)
        self.table.put(Pending(PRODUCTS, sku, Version(next(self._sequence), 1), lane, payload))

    def contact(self, email: str, lane: Lane = BULK) -> None:
        version = Version(next(self._sequence), 1)
        self.table.put(Pending(CONTACTS, email, version, lane, None, bare=True))

    def step(self, *coming: Entity) -> Batch | None:
        return self.filler.step(self.clock.monotonic(), coming)

    def after(self, seconds: float, *coming: Entity) -> Batch | None:
        """The batch that is ready after so long, if one is."""
        end = self.clock.monotonic() + seconds
        while True:
            batch = self.step(*coming)
            if batch is not None or self.clock.monotonic() >= end:
                return batch
            self.clock.advance(min(0.5, end - self.clock.monotonic()))

    def sent(self, batch: Batch | None) -> Batch:
        """Its call is out."""
        assert batch is not None
        batch.state = State.SENDING
        return batch

    def keys(self, batch: Batch | None) -> list[str]:
        assert batch is not None
        return [fence.key for fence in batch.fences]


@pytest.fixture
def benches(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(
        chunk: int = 1000, max_bytes: int = 45_000_000, write: Write = os.pwrite, **settings: Any
    ) -> Bench:
        made.append(Bench(tmp_path, chunk, max_bytes, write, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def bench(benches: Callable[..., Bench]) -> Bench:
    return benches()


def test_without_records_nothing_begins(bench):
    assert bench.after(60) is None
    assert bench.batches == {}
    assert not bench.filler.busy


# When it begins


def test_the_first_record_waits_for_others(bench):
    bench.product("A")
    assert bench.after(0.5) is None
    assert bench.batches == {}
    bench.product("B")
    assert bench.keys(bench.after(5)) == ["A", "B"]


def test_many_records_wait_for_nobody(benches):
    bench = benches(loader_linger_seconds=600.0)
    for number in range(1000):
        bench.product(str(number))
    assert bench.step() is None
    assert len(bench.batches) == 1


def test_a_live_record_waits_a_moment_only(benches):
    bench = benches(loader_linger_seconds=5.0)
    bench.product("A", LIVE)
    assert bench.step() is None
    bench.clock.advance(1.1)  # what a call takes of the quota
    assert bench.keys(bench.sent(bench.step())) == ["A"]
    bench.quota.interval_seconds = 0.01
    bench.product("B", LIVE)
    assert bench.step() is None
    bench.clock.advance(0.11)
    assert bench.keys(bench.step()) == ["B"]


def test_nothing_begins_long_before_the_quota_allows_it(bench):
    bench.product("A")
    bench.quota.waits[True] = 6.0
    assert bench.after(30) is None
    assert bench.batches == {}
    bench.quota.waits[True] = 4.0
    assert bench.keys(bench.after(30)) == ["A"]


def test_a_live_record_uses_the_call_that_is_left_for_it(bench):
    bench.quota.waits[True] = 60.0
    bench.product("A", LIVE)
    bench.product("B")
    assert bench.keys(bench.after(10)) == ["A"]
    bench.quota.waits[False] = 1.0
    bench.product("C", LIVE)
    assert bench.after(10) is None


def test_nothing_begins_where_no_slot_is_free_or_the_lane_is_stopped(benches):
    bench = benches(loader_insight_slots=1, loader_linger_seconds=0.0)
    bench.product("A")
    first = bench.sent(bench.after(10))
    bench.product("B")
    assert bench.after(60) is None
    first.close()
    del bench.batches[first.id]
    bench.lanes.without.add(PRODUCTS)
    assert bench.after(60) is None
    bench.lanes.without.clear()
    assert bench.keys(bench.after(10)) == ["B"]


def test_live_goes_before_bulk_and_bulk_leaves_it_a_slot(benches):
    bench = benches(loader_insight_slots=2, loader_linger_seconds=0.0)
    for number in range(3):
        bench.product(f"b{number}")
    assert bench.sent(bench.after(10)).lane is BULK
    bench.product("more")
    assert bench.after(60) is None, "the last slot is for live records"
    bench.product("live", LIVE)
    batch = bench.after(10)
    assert (batch.lane, bench.keys(batch)) == (LIVE, ["live"])


def test_each_entity_has_its_turn(benches):
    bench = benches(chunk=1, loader_linger_seconds=0.0)
    for number in range(4):
        bench.product(f"p{number}")
        bench.contact(f"c{number}@shop.example")
    for _ in range(4):
        bench.step()
    filled = {batch.entity: len(batch.fences) for batch in bench.batches.values()}
    assert filled == {PRODUCTS: 2, CONTACTS: 2}


# When it is full


def test_a_batch_is_full_at_its_most_records(benches):
    bench = benches(chunk=2, loader_batch_records=5)
    for number in range(8):
        bench.product(f"p{number}")
    assert bench.keys(bench.after(10, PRODUCTS)) == [f"p{number}" for number in range(5)]


def test_bulk_batches_are_small_and_quick_where_calls_are_plenty(bench):
    for number in range(6000):
        bench.contact(f"c{number}@shop.example")
    bench.quota.interval_seconds = 0.1
    assert len(bench.after(10, CONTACTS).fences) == 5000


def test_a_batch_is_full_at_its_most_bytes(benches):
    bench = benches(max_bytes=1000)
    for number in range(20):
        bench.product(f"p{number}")
    batch = bench.after(10, PRODUCTS)
    assert 0 < len(batch.fences) < 20
    assert 700 < batch.size <= 1000


def test_imports_and_deletions_are_batches_of_their_own_kind(benches):
    bench = benches(loader_linger_seconds=0.0)
    for number in range(4):
        bench.product(f"p{number}", gone=bool(number % 2))
    first, second = bench.sent(bench.after(10)), bench.after(10)
    assert (first.kind, bench.keys(first)) == (Kind.IMPORT, ["p0", "p2"])
    assert (second.kind, bench.keys(second)) == (Kind.DELETE, ["p1", "p3"])


# When it is over


def test_a_live_batch_is_over_as_soon_as_nothing_more_waits(benches):
    bench = benches(loader_linger_seconds=0.0)
    bench.product("A", LIVE)
    assert bench.keys(bench.step(PRODUCTS)) == ["A"]


def test_a_bulk_batch_is_over_once_it_is_quiet(bench):
    bench.product("A")
    bench.clock.advance(1)
    assert bench.after(1) is None
    bench.clock.advance(0.4)
    bench.product("B")
    assert bench.after(0.9) is None
    assert bench.keys(bench.after(1.1)) == ["A", "B"]


def test_it_does_not_wait_for_ever_while_records_drip_in(bench):
    batch, number = None, 0
    while batch is None and number < 60:
        number += 1
        bench.product(f"p{number}")
        batch = bench.after(0.5)
    assert bench.clock.monotonic() == pytest.approx(
        15 + 1, abs=1.5
    )  # fifteen calls' time, and the first linger
    assert len(bench.keys(batch)) > 20


def test_while_more_is_coming_calls_that_are_scarce_wait_for_it(bench):
    bench.quota.interval_seconds = 2.0
    bench.product("A")
    begun = bench.clock.monotonic()
    assert bench.after(110, PRODUCTS) is None
    bench.product("B")
    assert bench.after(110, PRODUCTS) is None
    assert bench.keys(bench.after(15, PRODUCTS)) == ["A", "B"]
    assert 120 < bench.clock.monotonic() - begun < 260


def test_it_waits_for_a_quarter_of_an_hour_at_most(bench):
    bench.quota.interval_seconds = 2.0
    batch, number = None, 0
    while batch is None and bench.clock.monotonic() < 2000:
        number += 1
        bench.product(f"p{number}")
        batch = bench.after(60, PRODUCTS)
    assert bench.clock.monotonic() == pytest.approx(901, abs=2)


def test_while_more_is_coming_calls_that_are_plenty_are_used(bench):
    bench.quota.interval_seconds = 0.05
    bench.product("A")
    assert bench.keys(bench.after(3, PRODUCTS)) == ["A"]


# The disk is full


class FullDisk:
    """Takes so many bytes, then says that it is full: in the middle of a write, as a real one does."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, number: int, data: Any, offset: int) -> int:
        new = max(
            0, offset + len(data) - os.fstat(number).st_size
        )  # what is there already takes no more room
        if new > self.room:
            kept = len(data) - new + self.room
            if kept <= 0:
                raise OSError(ENOSPC, "no space left")
            data = memoryview(data)[:kept]
            new = self.room
        self.room -= new
        return os.pwrite(number, data, offset)


@pytest.mark.parametrize("room", range(0, 1000, 23))
def test_a_full_disk_ends_a_batch_whose_body_is_whole_and_the_rest_goes_later(benches, room):
    disk = FullDisk(room)
    bench = benches(chunk=2, write=disk.write, loader_linger_seconds=0.0)
    for number in range(6):
        bench.product(f"p{number}")
    batch = bench.after(4)
    sent = list[str]()
    while len(sent) < 6:
        if batch is not None:
            body = b"".join(batch.chunks())
            assert len(body) == batch.size
            keys = [record["key"] for record in msgspec.json.decode(body)["records"]]
            assert keys == bench.keys(batch)
            assert keys
            sent += keys
            batch.close()
            del bench.batches[batch.id]
            with bench.table.transaction():
                for key in keys:
                    bench.table.drop(PRODUCTS, key)
                bench.table.release(batch.id)
        disk.room += 1000 + room  # something is given back
        assert bench.clock.monotonic() < 600
        batch = bench.after(20)
    assert sent == [f"p{number}" for number in range(6)]


def test_while_the_disk_is_full_it_is_tried_every_few_seconds_only(benches):
    disk = FullDisk(0)
    tries = count()
    bench = benches(write=lambda *given: next(tries) * 0 + disk.write(*given), loader_linger_seconds=0.0)
    bench.product("A")
    assert bench.after(19) is None
    assert next(tries) == 4
    assert bench.batches == {}
    disk.room = 1000
    assert bench.keys(bench.after(6)) == ["A"]
