import pytest
from hypothesis import given
from hypothesis import strategies as st

from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_runtime.avro import AvroCodec

CODEC = AvroCodec()
PRODUCT = dict.fromkeys(("id", "sku", "status", "name", "currency", "url"), "x") | {"price": 1.0}
HEADERS = {entity: CODEC._versions[entity].header for entity in Entity}


def decoded(entity: Entity, data: bytes) -> object:
    try:
        return CODEC.decode(entity, data)
    except InvalidRecord as invalid:
        return invalid.field, invalid.code


@given(
    st.sampled_from(Entity), st.sampled_from([b"", b"\xc3\x01", *HEADERS.values()]), st.binary(max_size=200)
)
def test_any_bytes_are_a_document_or_refused(entity: Entity, header: bytes, noise: bytes) -> None:
    result = decoded(entity, header + noise)
    assert isinstance(result, dict) or result in {
        ("value", "not_avro"),
        ("value", "unknown_schema"),
        ("value", "other_schema"),
    }


@pytest.mark.parametrize(
    "length", [b"\x01", b"\xff\xff\xff\xff\x7f", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]
)
def test_a_length_that_lies_is_refused(length: bytes) -> None:
    with pytest.raises(InvalidRecord):
        CODEC.decode(Entity.ORDERS, HEADERS[Entity.ORDERS] + length + b"x" * 50)


@given(st.integers(min_value=10, max_value=60), st.binary(min_size=1, max_size=4))
def test_a_damaged_record_never_raises_anything_else(position: int, damage: bytes) -> None:
    data = CODEC.encode(Entity.PRODUCTS, PRODUCT)
    result = decoded(Entity.PRODUCTS, data[:position] + damage + data[position + len(damage) :])
    assert isinstance(result, dict) or result == ("value", "not_avro")
