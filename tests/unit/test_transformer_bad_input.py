"""Whatever stands in a raw topic: a dead letter each, with its bytes, and never an error of ours."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estarsync_core.entities import Entity, Lane, Version
from estarsync_core.headers import EventHeaders
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.profile import load_profile
from estarsync_core.topics import raw_topic
from estarsync_runtime.avro import AvroCodec
from transformer.handler import DEAD_LETTER, PAYLOAD, Handler, Output, RawEvent

PROFILE = """
websites:
  "1": {currency: NZD, product_url: "https://shop.example/p/{id}", image_base: "https://shop.example"}
"""
HANDLER = Handler(Mapper(load_profile(PROFILE, "test")), AvroCodec(), "", "here")
CODEC = AvroCodec()
TIME = datetime(2024, 1, 2, tzinfo=UTC)


def order(*lines: dict[str, object], **changes: object) -> bytes:
    line = {"Barcode": "S", "Title": "Tee", "Quantity": "1", "UnitPrice": "9.95"}
    record = {
        "ID": "1",
        "Email": "a@shop.example",
        "OrderDate": "2024-01-02",
        "Status": "Completed",
        "Items": [line | each for each in lines or [{}]],
    }
    return json.dumps({"orders": [record | changes]}).encode()


def handle(value: bytes, key: bytes | None = b"1", entity: Entity = Entity.ORDERS) -> Output:
    headers = EventHeaders(entity, Version(1, 0), Lane.LIVE, "test", TIME, typed=False).encode()
    return HANDLER.handle(RawEvent(raw_topic(entity), 0, 0, key, value, headers))


DEEP = 200_000
BAD: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "nothing at all": (lambda: b"", "value", "not_json"),
    "a page of the shop": (lambda: b"<html>", "value", "not_json"),
    "half a record": (lambda: order()[:-5], "value", "not_json"),
    "two records": (lambda: order() + order(), "value", "not_json"),
    "latin-1": (lambda: order(Email="X").replace(b"X", b"\xe9"), "value", "not_json"),
    "NaN": (lambda: order().replace(b'"9.95"', b"NaN"), "value", "not_json"),
    "a lone surrogate": (lambda: order(Status="X").replace(b"X", b"\\ud800"), "value", "not_json"),
    "a lone surrogate as bytes": (
        lambda: order(Status="X").replace(b"X", b"\xed\xa0\x80"),
        "value",
        "not_json",
    ),
    "Confluent's magic byte": (lambda: b"\0\0\0\0\x07" + order(), "value", "not_json"),
    "single-object Avro": (lambda: b"\xc3\x01" + bytes(8) + order(), "value", "not_json"),
    "gzip": (lambda: b"\x1f\x8b\x08\0" + bytes(20), "value", "not_json"),
    "a list": (lambda: b"[]", "value", "wrong_type"),
    "null": (lambda: b"null", "value", "wrong_type"),
    "no orders": (lambda: b'{"orders":[]}', "orders", "missing"),
    "orders of another type": (lambda: b'{"orders":{"ID":"1"}}', "orders", "wrong_type"),
    "a number where text is": (lambda: order(ID=1), "orders[0].ID", "wrong_type"),
    "a huge number": (
        lambda: order().replace(b'"9.95"', b"1" + b"0" * 400),
        "orders[0].Items[0].UnitPrice",
        "wrong_type",
    ),
    "a huge number as text": (
        lambda: order({"UnitPrice": "9" * 5000}),
        "lines[0].unit_price",
        "not_a_number",
    ),
    "an exponent": (lambda: order({"UnitPrice": "1e308"}), "lines[0].unit_price", "not_a_number"),
    "NaN as text": (lambda: order({"UnitPrice": "NaN"}), "lines[0].unit_price", "not_a_number"),
    "a quantity beyond 32 bits": (
        lambda: order({"Quantity": "9999999999"}),
        "lines[0].quantity",
        "out_of_range",
    ),
    "a total beyond a double": (
        lambda: order({"Quantity": "2000000000", "UnitPrice": "99999999999"}),
        "order_total",
        "out_of_range",
    ),
    "deep lists": (lambda: b"[" * DEEP + b"]" * DEEP, "value", "wrong_type"),
    "deep lists in a field that nobody reads": (
        lambda: order(Extra="X").replace(b'"X"', b"[" * DEEP + b"]" * DEEP),
        "value",
        "not_json",
    ),
    "deep objects": (lambda: b'{"orders":' * DEEP + b"1" + b"}" * DEEP, "orders", "wrong_type"),
    "twenty megabytes of noise": (lambda: b"x" * (20 << 20), "value", "not_json"),
    "an unreadable date": (lambda: order(OrderDate="yesterday"), "purchase_date", "not_a_time"),
    "an unknown website": (lambda: order(Website="99"), "currency", "unknown_website"),
    "an e-mail that is none": (lambda: order(Email="nobody"), "email", "not_an_email"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_becomes_a_dead_letter_with_its_bytes(name: str) -> None:
    make, field, code = BAD[name]
    value = make()
    output = handle(value)
    headers = dict(output.headers)
    assert (headers["estarsync.field"].decode(), headers["estarsync.code"].decode()) == (field, code)
    assert (output.outcome, output.value) == (DEAD_LETTER, value)
    assert b"shop.example" not in b"".join(headers.values())  # no value of the record


def test_a_record_of_twenty_megabytes_is_mapped_like_any_other() -> None:
    output = handle(order({"Title": "y" * 1000}, Extra="x" * (19 << 20)))
    assert output.outcome == PAYLOAD
    assert len(output.value or b"") < 2000


def test_a_status_that_nobody_knows_is_not_sent() -> None:
    output = handle(order(Status="Teleported"))
    assert (output.outcome, output.value) == ("tombstone", None)


@given(st.sampled_from(Entity), st.binary(max_size=60), st.one_of(st.none(), st.binary(max_size=8)))
def test_any_bytes_and_any_key_are_handled(entity: Entity, value: bytes, key: bytes | None) -> None:
    output = handle(value, key, entity)
    assert output.outcome == DEAD_LETTER
    assert (output.key, output.value) == (key, value)


@pytest.mark.parametrize("name", BAD)
def test_a_neighbour_of_bad_input_is_what_it_would_be_without(name: str) -> None:
    alone = handle(order())
    handle(BAD[name][0]())
    assert handle(order()) == alone
