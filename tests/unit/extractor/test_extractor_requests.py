"""What people ask of the poller: to fetch dead letters again, to read a time again, to forget a shopper."""

import msgspec
import pytest

from estarsync_core.control import Backfill, Erasure, Letter, Progress, Redrive, erased_key, progress_key
from estarsync_core.deadletters import ATTEMPT
from estarsync_core.entities import Entity, Lane, Reason
from estarsync_core.estar.windows import Window
from estarsync_core.headers import version_of
from estarsync_core.topics import CONTROL
from extractor.letters import Opened, opened
from sandbox.estar.faults import Faults
from sandbox.estar.truth import canonical

RAW = {"contacts": "estar.contacts.v1", "products": "estar.products.v1", "orders": "estar.orders.v1"}
DLQ = "estarsync.extract.dlq.v1"


def ask(world, request: Redrive | Backfill) -> None:
    world.control.say(f"{type(request).__name__.lower()}/{request.id}", request)


def progress(world, request: str) -> Progress | None:
    values = [value for _, key, value, _ in world.log.of(CONTROL) if key == progress_key(request)]
    return msgspec.json.decode(values[-1], type=Progress) if values else None


def finish(world, request: str) -> Progress:
    def over() -> bool:
        come = progress(world, request)
        return come is not None and come.over

    world.run(over)
    come = progress(world, request)
    assert come is not None
    return come


def redrive(world, *letters: Opened | None) -> Redrive:
    world.letters.opened.update({n: each for n, each in enumerate(letters) if each is not None})
    places = tuple(Letter("estarsync.extract.dlq.v1", 0, number) for number in range(len(letters)))
    request = Redrive("again", "extractor", world.clock.now(), places)
    ask(world, request)
    return request


def attempts(headers) -> list[bytes]:
    return [value for name, value in headers if name == ATTEMPT]


def test_a_raw_event_is_fetched_and_published_again_though_nothing_changed(world) -> None:
    world.load()
    sizes = {entity: len(world.raw(entity)) for entity in RAW}
    keys = {entity: world.raw(entity)[0][1] for entity in RAW}
    redrive(world, *(Opened(Entity(entity), key, raw=True, attempt=2) for entity, key in keys.items()))
    come = finish(world, "again")
    assert (come.state, come.done, come.total, come.reason) == ("done", 3, 3, None)
    for entity, key in keys.items():
        fresh = world.raw(entity)[sizes[entity] :]
        assert key in {name for _, name, _, _ in fresh}
        for _, _, value, headers in fresh:
            assert value is not None
            assert version_of(headers)[1] is Lane.LIVE
            assert attempts(headers) == [b"2"], "its next dead letter counts on"


def test_what_still_cannot_be_used_is_a_dead_letter_once_more(world) -> None:
    world.load()
    letters = world.log.of(DLQ)
    contact = next(msgspec.json.decode(v) for _, k, v, _ in letters if k.startswith("contacts:"))
    assert attempts(letters[0][3]) == [b"1"]
    redrive(world, Opened(Entity.CONTACTS, contact["id"], raw=False, attempt=1, code=contact["code"]))
    assert finish(world, "again").state == "done"
    (again,) = world.log.of(DLQ)[len(letters) :]
    assert msgspec.json.decode(again[2])["id"] == contact["id"]
    assert attempts(again[3]) == [b"2"]


def test_what_was_mended_in_the_shop_is_published(world) -> None:
    world.load()
    contact = next(k for _, k, _, _ in world.log.of(DLQ) if k.startswith("contacts:")).partition(":")[2]
    world.shop.customers.records[int(contact)].body["Email"] = "mended@example.com"
    redrive(world, Opened(Entity.CONTACTS, contact, raw=False, attempt=1, code="missing"))
    finish(world, "again")
    group = world.log.latest(RAW["contacts"])["mended@example.com"]
    assert [customer["ID"] for customer in group["customers"]] == [contact]


def test_a_window_that_could_not_be_listed_is_listed_again(world) -> None:
    world.load()
    order = next(iter(world.shop.orders.records.values()))
    placed = order.created.replace(tzinfo=world.profile.zone)
    window = Window(placed.replace(hour=0, minute=0), placed.replace(hour=23, minute=59))
    before = len(world.raw("orders"))
    redrive(world, Opened(Entity.ORDERS, "window/x", raw=False, attempt=1, window=window))
    assert finish(world, "again").reason is None
    assert len(world.raw("orders")) > before


def test_letters_that_are_gone_or_name_nothing_are_counted(world) -> None:
    world.load()
    key = world.raw("orders")[0][1]
    redrive(
        world,
        None,
        Opened(Entity.ORDERS, key, raw=True, attempt=1),
        Opened(Entity.ORDERS, "notification/0/17", raw=False, attempt=1, code="not_json"),
        Opened(Entity.CONTACTS, "nobody@example.com", raw=True, attempt=1),
    )
    come = finish(world, "again")
    assert (come.state, come.done) == ("done", 4)
    assert "3 of 4 letters are no longer there" in (come.reason or "")


def test_a_redrive_goes_on_after_a_crash_and_through_trouble_in_the_shop(world) -> None:
    world.load()
    orders = [key for _, key, _, _ in world.raw("orders")[:40]]
    redrive(
        world, *(Opened(Entity.ORDERS, key, raw=True, attempt=1 + n // 20) for n, key in enumerate(orders))
    )
    before = len(world.raw("orders"))
    world.run(lambda: progress(world, "again") is not None)
    world.sandbox.faults.set(Faults(error=0.4, seed=3))
    world.loop = world.start()
    assert finish(world, "again").done == 40
    again = [key for _, key, _, _ in world.raw("orders")[before:]]
    assert set(again) >= set(orders)


def test_a_letter_says_what_it_was_about() -> None:
    value = b'{"entity":"orders","id":"window/a","window":{"start":"2026-01-01T00:00:00Z","end":"2026-01-01T00:00:01Z"},"code":"window_failed"}'
    window = opened(DLQ, b"orders:window/a", value, 3)
    assert window is not None
    assert window.window is not None
    assert (window.entity, window.attempt, window.window.smallest) == (Entity.ORDERS, 3, True)
    raw = opened("estar.products.v1.dlq", b"sku-1", b"{", 0)
    assert raw == Opened(Entity.PRODUCTS, "sku-1", raw=True, attempt=1)
    assert opened(DLQ, b"x", b"not json", 1) is None
    assert opened("estar.products.v1.dlq", None, b"{", 1) is None


@pytest.mark.parametrize("entity", list(Entity))
def test_a_backfill_publishes_everything_again_where_that_is_forced(world, entity: Entity) -> None:
    world.load()
    before = len(world.raw(entity))
    keys = set(world.log.latest(RAW[entity]))
    ask(world, Backfill("b", entity, world.clock.now(), force=True))
    come = finish(world, "b")
    fresh = world.raw(entity)[before:]
    assert come.state == "done"
    assert {key for _, key, _, _ in fresh} == keys
    assert {version_of(headers)[1] for *_, headers in fresh} == {Lane.BULK}
    assert come.done == come.total
    assert come.done > 0


def test_a_backfill_finds_what_was_missed_and_publishes_nothing_else(world) -> None:
    world.load()
    before = {entity: len(world.raw(entity)) for entity in RAW}
    order = list(world.shop.orders.records.values())[5]
    order.body["Status"] = "Returned"  # and the shop doesn't date it
    ask(world, Backfill("b", Entity.ORDERS, world.clock.now()))
    finish(world, "b")
    assert {entity: len(world.raw(entity)) - number for entity, number in before.items()} == {
        "contacts": 0,
        "products": 0,
        "orders": 1,
    }
    marks = world.checkpoints["orders"].feeds
    assert set(marks) == {"orders_created", "orders_modified", "orders_deep"}, "it leaves no mark of its own"


def test_a_backfill_since_a_time_reads_only_what_changed_since(world) -> None:
    world.load()
    since = world.clock.now()
    world.clock.advance(3600)
    edited = world.edit(kind="order")
    world.clock.advance(3600)
    before = len(world.raw("orders"))
    ask(world, Backfill("b", Entity.ORDERS, world.clock.now(), since, force=True))
    come = finish(world, "b")
    assert {key for _, key, _, _ in world.raw("orders")[before:]} == {str(edited.id)}
    assert come.done >= 1


def test_a_backfill_goes_on_where_a_killed_one_was(world) -> None:
    world.load()
    before = len(world.raw("products"))
    ask(world, Backfill("b", Entity.PRODUCTS, world.clock.now(), force=True))
    world.run(lambda: (progress(world, "b") or Progress("b", "running", 0, None, world.clock.now())).done > 0)
    world.loop = world.start()
    finish(world, "b")
    keys = [key for _, key, _, _ in world.raw("products")[before:]]
    assert len(keys) == len(set(keys)) == len(world.log.latest(RAW["products"]))


def test_a_backfill_can_be_stopped(world) -> None:
    world.load()
    request = Backfill("b", Entity.ORDERS, world.clock.now(), force=True)
    ask(world, request)
    world.run(lambda: progress(world, "b") is not None)
    ask(world, msgspec.structs.replace(request, cancelled=True))
    assert finish(world, "b").state == "cancelled"


def a_shopper(world) -> tuple[str, set[str]]:
    """Somebody with orders: the e-mail, and the keys of the orders."""
    trees = world.log.latest(RAW["orders"])
    contacts = world.log.latest(RAW["contacts"])
    by_email: dict[str, set[str]] = {}
    for key, tree in trees.items():
        for order in tree["orders"]:
            by_email.setdefault(canonical(order.get("Email")) or "", set()).add(key)
    return next((email, keys) for email, keys in by_email.items() if email in contacts and len(keys) > 1)


def test_an_erased_shopper_leaves_and_does_not_come_back(world) -> None:
    world.load()
    email, orders = a_shopper(world)
    world.control.say(erased_key(email), Erasure("e", world.clock.now()))
    world.run(lambda: email not in world.log.latest(RAW["contacts"]))
    world.run(lambda: not orders & set(world.log.latest(RAW["orders"])))
    gone = [m for entity in ("contacts", "orders") for m in world.raw(entity) if m[2] is None]
    assert {key for _, key, _, _ in gone} == {email, *orders}
    assert {version_of(headers)[2] for *_, headers in gone} == {Reason.ERASED}
    state = {key: value for _, key, value, _ in world.log.of("estarsync.source-state.v1")}
    assert email.encode() not in b"".join(value or b"" for value in state.values())
    # The shop still has it, and changes it; a new process knows of it too.
    customer = next(c for c in world.shop.customers.records.values() if canonical(c.leaf("Email")) == email)
    for start_again in (False, True):
        customer.body["FirstName"] = f"Other{start_again}"
        world.shop.customers.touch(
            customer, world.clock.now().astimezone(world.profile.zone).replace(tzinfo=None)
        )
        before = {entity: len(world.raw(entity)) for entity in RAW}
        if start_again:
            world.loop = world.start()
        world.poll()
        ask(world, Backfill(f"b{start_again}", Entity.ORDERS, world.clock.now(), force=True))
        finish(world, f"b{start_again}")
        assert email not in world.log.latest(RAW["contacts"])
        assert not orders & set(world.log.latest(RAW["orders"]))
        assert all(m[2] is not None for e in RAW for m in world.raw(e)[before[e] :]), (
            "one tombstone is enough"
        )
    read = world.metrics.registry.get_sample_value
    assert (read("estarsync_extractor_withheld_records_total", {"entity": "contacts"}) or 0) >= 2
    assert (read("estarsync_extractor_withheld_records_total", {"entity": "orders"}) or 0) >= len(orders)


def test_somebody_on_the_block_list_is_never_published(world) -> None:
    customer = next(c for c in world.shop.customers.records.values() if canonical(c.leaf("Email")))
    email = canonical(customer.leaf("Email")) or ""
    world.control.say(erased_key(email), Erasure("e", world.clock.now()))
    world.loop.turn()
    world.load()
    written = b"".join((value or b"") + key.encode() for _, key, value, _ in world.log.messages)
    assert email.encode() not in written.lower()
