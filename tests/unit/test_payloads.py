"""From a typed document to what Dotdigital's imports take."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from estarsync_core.dotdigital.fields import DATA_FIELDS
from estarsync_core.dotdigital.payloads import (
    bare_contact_entry,
    contact_entry,
    insight_record,
    renamed_entry,
)
from estarsync_core.entities import Entity

FORBIDDEN = {"status", "optInType", "resubscribeOptions", "channelProperties"}


def order(**more: Any) -> dict[str, Any]:
    return {
        "id": "ES/1",
        "email": "aroha@shop.example",
        "order_total": 12.5,
        "purchase_date": datetime(2026, 2, 3, 4, 5, 6, 789000, tzinfo=UTC),
        "delivery_method": None,
        "billing_address": None,
        "delivery_address": None,
        "products": [{"sku": "S", "qty": 0, "product_id": None}],
        **more,
    }


def test_a_contact_clears_what_is_null_and_keeps_what_is_omitted():
    document = {
        "email": "aroha@shop.example",
        "renamed_from": None,
        "data_fields": {
            "FIRSTNAME": "Aroha",
            "LASTNAME": None,
            "DOB": date(1990, 1, 2),
            "NEWSLETTER_SUBSCRIBE": False,
            "CUSTOMER_TYPE": None,
        },
        "omitted": ["CUSTOMER_TYPE"],
    }
    assert contact_entry(document, 7) == {
        "matchIdentifier": "email",
        "identifiers": {"email": "aroha@shop.example"},
        "lists": [7],
        "dataFields": {
            "FIRSTNAME": "Aroha",
            "LASTNAME": None,
            "DOB": "1990-01-02T00:00:00Z",
            "NEWSLETTER_SUBSCRIBE": False,
        },
    }


def test_a_bare_contact_is_an_identifier_and_a_list():
    assert bare_contact_entry("guest@shop.example", 7) == {
        "matchIdentifier": "email",
        "identifiers": {"email": "guest@shop.example"},
        "lists": [7],
    }


def test_a_new_e_mail_is_written_and_nothing_else():
    assert renamed_entry("new@example.com") == {"identifiers": {"email": "new@example.com"}}


def test_a_product_is_sent_with_its_nulls():
    document = {"id": "5", "sku": "MUG RED", "specialprice": None, "price": 1.25, "status": "Enabled"}
    record = insight_record(Entity.PRODUCTS, document)
    assert record["key"].startswith("MUG_RED-")
    assert record == {"key": record["key"], "json": document}


def test_an_order_leaves_out_what_is_empty():
    record = insight_record(
        Entity.ORDERS,
        order(billing_address={"billing_city": None}, delivery_address={"delivery_city": "Napier"}),
    )
    assert record["contactIdentity"] == {"identifier": "email", "value": "aroha@shop.example"}
    assert record["json"] == {
        "id": "ES/1",
        "email": "aroha@shop.example",
        "order_total": 12.5,
        "purchase_date": "2026-02-03T04:05:06Z",
        "delivery_address": {"delivery_city": "Napier"},
        "products": [{"sku": "S", "qty": 0}],
    }


def test_times_are_sent_in_utc():
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=13)))
    assert (
        insight_record(Entity.ORDERS, order(purchase_date=noon))["json"]["purchase_date"]
        == "2025-12-31T23:00:00Z"
    )


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.datetimes(timezones=st.just(UTC))
)
NAMES = st.sampled_from([*sorted(FORBIDDEN), *DATA_FIELDS]) | st.text(max_size=8)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)


def keys_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        for part in value.values():
            yield from keys_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from keys_in(part)


@given(
    email=st.text(),
    fields=st.dictionaries(NAMES, SCALARS),
    omitted=st.lists(NAMES),
    more=st.dictionaries(NAMES, ANYTHING),
    list_id=st.integers(),
)
def test_no_contact_document_gets_a_word_on_consent_through(email, fields, omitted, more, list_id):
    document = {**more, "email": email, "data_fields": fields, "omitted": omitted}
    for entry in (contact_entry(document, list_id), bare_contact_entry(email, list_id)):
        assert not FORBIDDEN & set(keys_in(entry))
        assert set(entry) <= {"matchIdentifier", "identifiers", "lists", "dataFields"}
        assert set(entry["identifiers"]) == {"email"}


@given(entity=st.sampled_from([Entity.PRODUCTS, Entity.ORDERS]), document=st.dictionaries(NAMES, ANYTHING))
def test_no_insight_record_says_anything_beside_its_own_document(entity, document):
    whole = {**document, "id": "1", "sku": "s", "email": "a@shop.example"}
    record = insight_record(entity, whole)
    assert set(record) <= {"key", "contactIdentity", "json"}
    assert set(record.get("contactIdentity", {})) <= {"identifier", "value"}
    assert set(record["json"]) <= set(whole)


def test_a_text_of_a_class_of_its_own_is_sent_as_it_is():
    found = insight_record(Entity.PRODUCTS, {"sku": "S", "name": Entity.ORDERS})
    assert found["json"]["name"] == "orders"
