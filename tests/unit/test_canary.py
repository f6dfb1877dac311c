"""The canary's records: what they are mapped to, when they must not fly, and how they are told from the shop's."""

from datetime import UTC, datetime, timedelta

import pytest

from estarsync_core.canary import (
    CANARY,
    CANARY_STATE,
    Canary,
    CanaryKeys,
    CanaryState,
    raw_values,
    refusal,
    synthetic,
    title_of,
)
from estarsync_core.control import Blocked, Words, email_hash, encode
from estarsync_core.entities import Entity
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.profile import TenantProfile, load_profile
from sandbox.estar import profile_path

AT = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
KEYS = CanaryKeys("canary@example.com", "estarsync-canary", "estarsync-canary-order")
FLIGHT = Canary("canary-1", AT, AT + timedelta(minutes=5), KEYS)


def profile(more: str = "") -> TenantProfile:
    return load_profile(profile_path().read_text(encoding="utf-8") + more, "test")


@pytest.mark.parametrize("voided", ["keep", "remove"])
def test_its_records_are_mapped_and_matter_to_nobody(voided):
    mapper = Mapper(profile(f"\norders: {{voided: {voided}}}\n"))
    raw = raw_values(FLIGHT, profile())
    found = {entity: mapper.record(entity, KEYS.of(entity), value) for entity, value in raw.items()}
    documents = {entity: each.document or {} for entity, each in found.items()}
    contact, product, order = (documents[entity] for entity in Entity)
    assert contact["data_fields"]["LASTNAME"] == FLIGHT.id
    assert contact["data_fields"]["NEWSLETTER_SUBSCRIBE"] is None
    assert (product["name"], product["status"], product["price"]) == (title_of(FLIGHT), "Disabled", 0.0)
    assert (order["email"], order["order_total"], order["delivery_method"]) == (KEYS.email, 0.0, FLIGHT.id)
    assert order["purchase_date"] == AT
    assert [line["sku"] for line in order["products"]] == [KEYS.sku]
    assert {each.dropped for each in found.values()} == {()}


def test_a_shop_that_sends_no_order_has_a_canary_all_the_same():
    none = profile("\norders: {statuses: []}\n")
    mapped = Mapper(none).record(Entity.ORDERS, KEYS.order, raw_values(FLIGHT, none)[Entity.ORDERS])
    assert mapped.document is None


def test_it_flies_where_nothing_speaks_against_it():
    assert refusal(FLIGHT, profile(), Blocked(), []) is None
    left_out = profile("\ncontacts: {fields: {NEWSLETTER_SUBSCRIBE: null}}\n")
    assert refusal(FLIGHT, left_out, Blocked(), []) is None
    no = profile("\ncontacts: {fields: {NEWSLETTER_SUBSCRIBE: {attribute: News, default: 'no'}}}\n")
    assert refusal(FLIGHT, no, Blocked(), []) is None


def test_it_does_not_fly_over_the_shop_nor_over_an_erasure_nor_with_a_consent():
    assert "orders" in (refusal(FLIGHT, profile(), Blocked(), [Entity.ORDERS]) or "")
    blocked = Blocked([email_hash(KEYS.email)])
    assert "--lift" in (refusal(FLIGHT, profile(), blocked, []) or "")
    yes = profile("\ncontacts: {fields: {NEWSLETTER_SUBSCRIBE: {attribute: News, default: 'yes'}}}\n")
    assert "default" in (refusal(FLIGHT, yes, Blocked(), []) or "")


def test_its_keys_are_known_while_it_flies_and_after():
    words = Words()
    assert not synthetic(words)
    words.take(CANARY.encode(), encode(FLIGHT))
    all_keys = {(entity, KEYS.of(entity)) for entity in Entity}
    assert synthetic(words) == all_keys
    other = CanaryKeys("other@example.com", "other", "other")
    words.take(CANARY_STATE.encode(), encode(CanaryState("canary-0", "removed", AT, other)))
    assert len(synthetic(words)) == 6
    words.take(CANARY.encode(), None)
    assert synthetic(words) == {(entity, other.of(entity)) for entity in Entity}
