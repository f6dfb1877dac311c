"""What may be at Dotdigital is removed, however often the loader is killed before it knows."""

import pytest

from estarsync_core.entities import Entity
from estarsync_core.topics import DELIVERED

CONTACT_IMPORT, INSIGHT_IMPORT = "/contacts/v3/import", "/insightData/v3/import"


def killed_before_the_answer(rig, entity: Entity) -> None:
    """Send a record, and end the process before Dotdigital's answer is read."""
    rig.calls.held = True
    if entity is Entity.PRODUCTS:
        rig.product("A")
    else:
        rig.order("A", "guest@shop.example")
    rig.run(until=lambda: rig.engine.calling)
    rig.kill()


class Killed(BaseException):
    """The end of a process, at a certain place."""


def killed_before_the_removal(rig) -> None:
    """Run until a deletion's intent is about to be written, and kill the process just before."""
    produce = rig.producer.produce

    def watched(topic: str, key: bytes, value: bytes, headers: object = None) -> None:
        if topic.endswith("imports.v1") and b'"kind":"delete"' in value:
            raise Killed
        produce(topic, key, value, headers)

    rig.producer.produce = watched
    with pytest.raises(Killed):
        rig.run(300)
    rig.producer.produce = produce
    rig.kill()


def there(rig, entity: Entity) -> object:
    return rig.record("catalog_estar" if entity is Entity.PRODUCTS else "orders", "A")


@pytest.mark.parametrize("entity", [Entity.PRODUCTS, Entity.ORDERS])
def test_a_removal_is_sent_although_two_processes_were_killed_before_it(rig, entity):
    rig.contact("guest@shop.example")
    rig.run()
    killed_before_the_answer(rig, entity)
    rig.tombstone(entity, "A")
    # The second process sees the settling time through.
    killed_before_the_removal(rig)
    assert there(rig, entity) is not None
    rig.run(300)
    assert there(rig, entity) is None
    assert rig.counted(entity) == {"removed": 1}
    assert rig.violations == {}


def test_a_removal_is_sent_after_an_import_that_failed_in_part(rigs):
    rig = rigs({"import_seconds": 5.0})
    rig.fault("import_failed", share=1.0)
    rig.product("A")
    rig.run(until=lambda: rig.imports() and rig.imports()[-1]["state"] == "accepted")
    rig.kill()
    rig.tombstone(Entity.PRODUCTS, "A")
    killed_before_the_removal(rig)
    assert rig.record("catalog_estar", "A") is not None
    rig.run(300)
    assert rig.record("catalog_estar", "A") is None


def test_a_settled_doubt_is_no_delivery(rig):
    killed_before_the_answer(rig, Entity.PRODUCTS)
    rig.run(300)
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1}
    assert rig.states()["products:A"]["outcome"] == "delivered"


def test_what_a_report_has_settled_is_not_doubted_after_the_settling_time(rig):
    rig.fault("drop_after", path=INSIGHT_IMPORT)
    rig.product("A")
    rig.run(600)
    assert rig.states()["products:A"]["outcome"] == "delivered"
    rig.fault("drop_after", method="DELETE")
    rig.tombstone(Entity.PRODUCTS, "A")
    rig.run(600)
    assert rig.states()["products:A"]["there"] is False


def test_a_large_batch_ends_in_small_transactions_and_a_crash_between_them_is_safe(rigs):
    rig = rigs(chunk=2, loader_batch_records=7)
    rig.calls.held = True
    for number in range(7):
        rig.product(f"p{number}")
    rig.run(until=lambda: rig.engine.calling)
    rig.kill()
    for number in range(7):
        rig.tombstone(Entity.PRODUCTS, f"p{number}")
    produce, transactions = rig.producer.produce, list[int]()
    rig.turn_for(30)

    def watched(topic: str, key: bytes, value: bytes, headers: object = None) -> None:
        if topic.endswith("delivered.v1") and b"unsure" in value:
            written = len(rig.written(DELIVERED))
            if not transactions or transactions[-1] != written:
                transactions.append(written)
            if len(transactions) == 3:
                raise Killed
        produce(topic, key, value, headers)

    rig.producer.produce = watched
    with pytest.raises(Killed):
        rig.run(300)
    assert transactions == [0, 2, 4]
    rig.producer.produce = produce
    rig.kill()
    assert len(list(rig.box.account.collection("catalog_estar").rows)) == 7
    rig.run(300)
    assert list(rig.box.account.collection("catalog_estar").rows) == []
    assert next(row["why"] for row in rig.imports() if row["state"] == "closed") == "settled"
    assert rig.violations == {}
