"""What the loader does with records whose schema it does not know, and while the schema registry is away."""

import json
from importlib.resources import files
from typing import Any

import pytest
from typing_extensions import override

from estarsync_core.entities import Entity
from estarsync_core.errors import RetryLater, Stop
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.registry import SchemaRegistry

INSIGHT_IMPORT = "/insightData/v3/import"
PRODUCTS = "t.dotdigital.products.v1"


class Registry(SchemaRegistry):
    """A registry in this process; it may be away."""

    def __init__(self) -> None:
        super().__init__("http://registry:8081")
        self.schemas: dict[int, dict[str, Any]] = {}
        self.away = False
        self.asked = 0

    @override
    def schema(self, number: int) -> dict[str, Any] | None:
        self.asked += 1
        if self.away:
            raise RetryLater(
                "the schema registry at http://registry:8081 does not answer (ConnectionRefusedError)"
            )
        return self.schemas.get(number)


def bundled(name: str) -> dict[str, Any]:
    text = files("estarsync_schemas").joinpath("avro", name).read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.fixture
def registry(rig):
    made = Registry()
    rig.codec = AvroCodec(made)
    rig.kill()
    return made


def in_wire_format(rig, sku: str, number: int) -> None:
    """Publish a product as a transformer with a registry writes it."""
    rig.product(sku)
    plain = rig.topics.log[PRODUCTS].pop().value()
    rig.publish(Entity.PRODUCTS, sku, b"\0" + number.to_bytes(4, "big") + plain[10:])


def test_a_newer_transformers_record_stops_the_loader_and_the_right_release_goes_on(rig, registry):
    rig.product("A")
    in_wire_format(rig, "B", 7)
    with pytest.raises(Stop, match="start the loader of that release"):
        rig.run()
    rig.kill()
    with pytest.raises(Stop, match="start the loader of that release"):
        rig.run()
    assert rig.dead_letters(Entity.PRODUCTS) == {}
    registry.schemas[7] = bundled("dotdigital.product.v1.avsc")
    rig.kill()
    rig.run()
    assert rig.record("catalog_estar", "A") is not None
    assert rig.record("catalog_estar", "B") is not None


def test_a_fingerprint_that_nobody_knows_stops_the_loader(rig):
    rig.product("A")
    value = rig.topics.log[PRODUCTS].pop().value()
    rig.publish(Entity.PRODUCTS, "A", value[:2] + b"\1\2\3\4\5\6\7\x08" + value[10:])
    with pytest.raises(Stop, match="nothing is lost"):
        rig.run()
    assert ("t.dotdigital.products.v1", 0) not in rig.producer.offsets


def test_a_registrys_format_without_a_registry_stops_the_loader(rig):
    in_wire_format(rig, "A", 7)
    with pytest.raises(Stop, match="SCHEMA_REGISTRY_URL"):
        rig.run()


def test_another_entitys_record_is_a_dead_letter(rig, registry):
    registry.schemas[3] = bundled("dotdigital.order.v1.avsc")
    in_wire_format(rig, "numbered", 3)
    rig.contact("aroha@shop.example")
    value = rig.topics.log["t.dotdigital.contacts.v1"].pop().value()
    rig.publish(Entity.PRODUCTS, "plain", value)
    rig.publish(Entity.PRODUCTS, "corrupt", b"\xff")
    rig.run()
    rig.turn_for(2)
    assert rig.dead_letters(Entity.PRODUCTS) == {
        "numbered": "other_schema",
        "plain": "other_schema",
        "corrupt": "not_avro",
    }


def test_while_the_registry_is_away_delivery_goes_on_and_nothing_is_lost(rig, registry):
    registry.schemas[7] = bundled("dotdigital.product.v1.avsc")
    registry.away = True
    rig.product("A")
    in_wire_format(rig, "B", 7)
    rig.product("C")
    in_wire_format(rig, "D", 7)
    rig.turn_for(120)
    assert rig.record("catalog_estar", "A") is not None
    assert rig.record("catalog_estar", "C") is None  # partitions are read in order
    assert rig.producer.offsets[PRODUCTS, 0] == 1
    assert registry.asked <= 25
    registry.away = False
    rig.run()
    rig.turn_for(2)
    assert {key for key in "ABCD" if rig.record("catalog_estar", key)} == set("ABCD")
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 4}
    assert rig.producer.offsets[PRODUCTS, 0] == 4


def test_a_loader_killed_while_the_registry_is_away_loses_nothing(rig, registry):
    registry.schemas[7] = bundled("dotdigital.product.v1.avsc")
    registry.away = True
    in_wire_format(rig, "A", 7)
    rig.turn_for(20)
    rig.kill()
    registry.away = False
    rig.run()
    assert rig.record("catalog_estar", "A") is not None
