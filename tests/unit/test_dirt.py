"""The dirt that real shops have: one test for each row of the list of API facts, named after the row's number.

Rows are played through the decoder, the grouping and the mapping; those about calls through the whole extraction from
the sandbox shop. More about some of them stands elsewhere:

- 6, 15, 16: `test_extractor_feeds.py`, `test_windows_laws.py` (no instant is ever skipped), `test_extractor_laws.py`
- 10: the deep sweep in `test_extractor_feeds.py`
- 26, 27: `test_estar_decoder.py`
- 33: `test_fetch_laws.py`
- 35: `test_estar_soap.py`
- 37: `test_webhooks.py`, `test_sequence_laws.py`

Row 34 holds as far as a deletion can be seen: the shop lists no deleted customers, so that one is noticed when a record
that shared its e-mail is read again, or when it is erased by a person's order.
"""

import json
import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

import httpx
import pytest
from prometheus_client import CollectorRegistry

from estarsync_core.entities import Entity, Reason
from estarsync_core.errors import ConfigurationError, InvalidRecord
from estarsync_core.estar.changes import Row, Rules, changes
from estarsync_core.estar.content import DropList, Record, canonical_json
from estarsync_core.estar.grouping import Grouped, group_customers, group_items, group_orders
from estarsync_core.estar.notifications import is_signed, order_ids, read_notification, sign
from estarsync_core.estar.sequences import Sequences
from estarsync_core.estar.windows import Window, begin_run, horizon, next_window, place_at, shop_bounds
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.mapping.result import Document, Mapped
from estarsync_core.profile import TenantProfile, load_profile
from estarsync_runtime.estar.decoder import Decoder
from estarsync_runtime.estar.soap import Credentials, EstarClient
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.testing import FakeClock
from sandbox.estar import profile_path
from sandbox.estar.contract import Contract
from sandbox.estar.edits import Edit, Editor
from sandbox.estar.faults import Faults
from sandbox.estar.generate import generate
from sandbox.estar.soap import Access, ShopSandbox
from sandbox.estar.truth import truth

PROFILE = """
timezone: Pacific/Auckland
websites:
  1: {currency: NZD, product_url: "https://shop.example/p/{id}", image_base: "https://shop.example"}
  2: {currency: AUD, product_url: "https://au.example/p/{id}", image_base: "https://au.example"}
"""
NOW = datetime(2026, 1, 2, tzinfo=UTC)
LINE = {"Barcode": "A", "Title": "Tee", "Quantity": "2", "UnitPrice": "10", "StatusCode": "Ordered"}
ORDER = {"ID": "45", "Email": "a@shop.example", "OrderDate": "2024-01-02T03:04:05", "Status": "Completed"}


def profile_of(more: str = "") -> TenantProfile:
    return load_profile(PROFILE + more, "test")


def xml(node: Any, tag: str) -> str:
    if node is None:
        return f'<{tag} xsi:nil="true"/>'
    if isinstance(node, dict):
        return f"<{tag}>{''.join(xml(child, name) for name, child in node.items())}</{tag}>"
    if isinstance(node, list):
        return f"<{tag}>{''.join(xml(child, 'Entry') for child in node)}</{tag}>"
    return f"<{tag}>{node if node.startswith('&#') else escape(node)}</{tag}>"


def decoded(rows: list[dict[str, Any]], profile: TenantProfile) -> dict[str, Record]:
    """Records as they come out of a SOAP answer, by id."""
    inside = "".join(xml(row, "Row") for row in rows)
    envelope = (
        '<e:Envelope xmlns:e="x" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><e:Body><R><RResult><Data>'
        f"{inside}</Data></RResult></R></e:Body></e:Envelope>"
    )
    answer = Decoder(profile.records).answer(envelope.encode(), "utf-8", ["Data", "Row"])
    records = [row for row in answer.rows if isinstance(row, dict)]
    return {str(record["ID"]): record for record in records}


def sent(entity: Entity, grouped: Grouped, profile: TenantProfile) -> dict[str, Mapped]:
    mapper = Mapper(profile)
    return {
        group.key: mapper.record(entity, group.key, canonical_json(group.value)) for group in grouped.groups
    }


def contacts(*customers: dict[str, Any], more: str = "") -> dict[str, Document]:
    profile = profile_of(more)
    grouped = group_customers(decoded(list(customers), profile), profile.contacts.placeholder_emails)
    found = sent(Entity.CONTACTS, grouped, profile)
    return {key: mapped.document["data_fields"] for key, mapped in found.items() if mapped.document}


def contact(more: str = "", **fields: Any) -> Document:
    [found] = contacts({"ID": "1", "Email": "a@shop.example", **fields}, more=more).values()
    return found


def order(*lines: dict[str, Any], more: str = "", **fields: Any) -> Mapped:
    [found] = orders({**ORDER, "Items": list(lines or [LINE]), **fields}, more=more).values()
    return found


def orders(*rows: dict[str, Any], more: str = "") -> dict[str, Mapped]:
    profile = profile_of(more)
    return sent(Entity.ORDERS, group_orders(decoded(list(rows), profile)), profile)


def document(mapped: Mapped) -> Document:
    assert mapped.document is not None
    return mapped.document


def product(
    item: dict[str, Any] | None = None, more: str = "", now: datetime | None = None, **fields: Any
) -> Document:
    profile = profile_of(more)
    row = {"ID": "5", "Title": "Tee", "Price": "10", **fields, "Items": [{"Barcode": "A", **(item or {})}]}
    grouped = group_items(decoded([row], profile), profile.products.enabled_statuses, profile.zone, now)
    [found] = sent(Entity.PRODUCTS, grouped, profile).values()
    return document(found)


def refused(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(InvalidRecord) as caught:
        call()
    return caught.value.field, caught.value.code


@pytest.fixture
def sandbox() -> ShopSandbox:
    return ShopSandbox(generate(40, 1, ZoneInfo("Europe/London")), FakeClock(NOW))


@pytest.fixture
def shop_profile() -> TenantProfile:
    return load_profile(profile_path().read_text("utf-8"), "test")


@pytest.mark.parametrize("customer", ["0", None, ""])
def test_01_a_guests_order_needs_no_customer(customer: str | None) -> None:
    assert document(order(Customer=customer))["email"] == "a@shop.example"


def test_02_a_guests_orders_have_one_contact() -> None:
    found = orders(
        *(
            {**ORDER, "ID": str(n), "Email": email, "Items": [LINE], "Customer": str(n)}
            for n, email in enumerate(["a@shop.example", " A@Shop.example ", "a@SHOP.example"], 1)
        )
    )
    assert {document(mapped)["email"] for mapped in found.values()} == {"a@shop.example"}


def test_03_upper_and_lower_case_are_one_shopper() -> None:
    emails = ["Jo@Shop.example", " jo@shop.example", "JO@SHOP.EXAMPLE"]
    assert list(contacts(*({"ID": str(n), "Email": email} for n, email in enumerate(emails)))) == [
        "jo@shop.example"
    ]


def test_04_of_two_accounts_with_one_email_the_winner_is_always_the_same() -> None:
    inactive: dict[str, Any] = {
        "ID": "9",
        "Email": "a@x.nz",
        "FirstName": "Old",
        "DateModified": "2025-01-01T00:00:00",
        "Attributes": [{"Name": "Active", "Value": "false"}],
    }
    earlier = {"ID": "8", "Email": "a@x.nz", "FirstName": "Earlier", "DateModified": "2023-01-01T00:00:00"}
    later = {"ID": "7", "Email": "A@x.nz", "FirstName": "Later", "DateModified": "2024-01-01T00:00:00"}
    for rows in ([inactive, earlier, later], [later, earlier, inactive]):
        assert contacts(*rows)["a@x.nz"]["FIRSTNAME"] == "Later"


@pytest.mark.parametrize(
    ("email", "code"),
    [
        (None, "missing"),
        ("", "missing"),
        ("noemail@store", "not_an_email"),
        ("noemail@shop.co.nz", "placeholder"),
    ],
)
def test_05_an_email_that_is_nobodys_is_a_dead_letter_with_its_reason(email: str | None, code: str) -> None:
    more = "contacts: {placeholder_emails: [NoEmail@shop.co.nz]}"
    grouped = group_customers(
        decoded([{"ID": "1", "Email": email}], profile_of()), profile_of(more).contacts.placeholder_emails
    )
    assert (grouped.groups, grouped.unusable) == ([], {"1": code})
    assert refused(lambda: order(Email=email, more=more)) == ("email", code)


def test_05_a_placeholder_in_the_profile_must_be_an_email() -> None:
    with pytest.raises(ConfigurationError, match=r"contacts\.placeholder_emails.*no e-mail"):
        profile_of("contacts: {placeholder_emails: [noemail]}")


def test_06_a_changed_email_is_a_rename_and_leaves_the_old_key() -> None:
    grouped = group_customers({"1": {"ID": "1", "Email": "new@x.nz"}})
    found = changes(
        grouped,
        [],
        {"1": Row("old@x.nz", "h")},
        Rules(DropList([]), 10_000, left=Reason.RENAMED, renames=True),
    )
    assert [(event.key, event.reason) for event in found.events] == [
        ("new@x.nz", None),
        ("old@x.nz", Reason.RENAMED),
    ]
    mapped = Mapper(profile_of()).record(Entity.CONTACTS, "new@x.nz", found.events[0].value or b"")
    assert document(mapped)["renamed_from"] == "old@x.nz"


@pytest.mark.parametrize(("rule", "consent"), [("all", False), ("any", True), ("winner", False)])
def test_07_consent_of_one_person_on_two_websites_is_by_the_profiles_rule(
    rule: str, *, consent: bool
) -> None:
    rows = [
        {"ID": "1", "Email": "a@x.nz", "LpmStatus": "1", "Websites": ["1"]},
        {"ID": "2", "Email": "a@x.nz", "LpmStatus": "0", "Websites": ["2"]},
    ]
    found = contacts(*rows, more=f"contacts: {{shared_consent: {rule}}}")
    assert found["a@x.nz"]["NEWSLETTER_SUBSCRIBE"] is consent


def test_08_a_return_shrinks_the_order_and_a_negative_line_counts() -> None:
    whole = document(order({**LINE, "ID": "1"}, {**LINE, "ID": "2", "Barcode": "B"}, Total="40.00"))
    back = document(
        order({**LINE, "ID": "1"}, {**LINE, "Barcode": "B", "StatusCode": "Deleted"}, Total="40.00")
    )
    assert (whole["order_total"], back["order_total"], len(back["products"])) == (40.0, 20.0, 1)
    nothing_left = document(order({**LINE, "StatusCode": "Deleted"}, Total="20.00"))
    assert (nothing_left["order_total"], nothing_left["products"][0]["qty"]) == (0.0, 0)
    assert document(order(LINE, {**LINE, "Quantity": "-1"}))["order_total"] == 10.0


def test_09_a_split_counts_once_and_a_replacement_by_setting() -> None:
    root = {**ORDER, "Items": [LINE, {**LINE, "StatusCode": "SplitToNewOrder"}], "Total": "20.00"}
    child = {**ORDER, "ID": "46", "ParentOrderID": "45", "Items": [LINE], "Total": "20.00"}
    again = {**ORDER, "ID": "99", "ReplacementOf": "45", "Items": [LINE], "Total": "20.00"}
    found = orders(root, child, again)
    assert (sorted(found), document(found["45"])["order_total"]) == (["45", "99"], 40.0)
    assert (found["99"].document, found["99"].reason) == (None, Reason.REMOVED)
    assert document(orders(again, more="orders: {replacements: keep}")["99"])["order_total"] == 20.0


def test_10_an_old_order_that_is_voided_is_published_again(
    sandbox: ShopSandbox, shop_profile: TenantProfile, extraction: Callable[..., Any]
) -> None:
    clock = FakeClock(NOW)
    found = extraction(sandbox, shop_profile, clock).run()
    old = min(
        (
            o
            for o in sandbox.shop.orders.records.values()
            if o.parent is None and o.leaf("Status") == "Completed"
        ),
        key=lambda o: o.created,
    )
    editor = Editor(sandbox.shop, Contract(), random.Random(1))  # noqa: S311 - the same every time
    editor.apply(Edit(kind="void", id=old.id), sandbox.shop.local(NOW + timedelta(minutes=5)))
    clock.advance(3600)
    found.poll()
    assert document(found.mapped(Entity.ORDERS)[str(old.id)])["order_status"] == "Cancelled"


@pytest.mark.parametrize("status", ["Initiated", "OrderSubmitting", "InvalidCardNumber", "FraudulentOrder"])
def test_11_an_unpaid_or_fraudulent_order_is_not_sent(status: str) -> None:
    assert order(Status=status).reason is Reason.REMOVED


def test_12_a_status_may_be_new_or_only_a_number() -> None:
    assert order(Status="SomethingNew", OrderStatus="4711").reason is Reason.REMOVED
    assert document(order(Status="SomethingNew", more="orders: {statuses: [SomethingNew]}"))
    named = order(Status="", OrderStatus="7", more="orders: {status_names: {7: Completed}}")
    assert document(named)["order_status"] == "Completed"


@pytest.mark.parametrize(
    ("local", "instant"),
    [
        ("2024-01-02T03:04:05", datetime(2024, 1, 1, 14, 4, 5, tzinfo=UTC)),
        ("2024-01-02T03:04:05Z", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2024-01-02T03:04:05+02:00", datetime(2024, 1, 2, 1, 4, 5, tzinfo=UTC)),
        ("2024-04-07T02:30:00", datetime(2024, 4, 6, 13, 30, tzinfo=UTC)),  # the hour repeats: its first time
        ("2024-09-29T02:30:00", datetime(2024, 9, 28, 14, 30, tzinfo=UTC)),  # an hour that never was
    ],
)
def test_13_a_time_without_an_offset_is_the_shops(local: str, instant: datetime) -> None:
    assert document(order(OrderDate=local))["purchase_date"] == instant


@pytest.mark.parametrize(
    "nothing", ["0001-01-01T00:00:00", "1900-01-01T00:00:00", "9999-12-31T23:59:59.9999999"]
)
def test_14_a_date_that_stands_for_nothing_is_nothing(nothing: str) -> None:
    assert contact(Attributes=[{"Name": "DOB", "Value": nothing}])["DOB"] is None
    assert refused(lambda: order(OrderDate=nothing)) == ("purchase_date", "missing")


def test_15_what_is_written_late_is_read_by_the_next_run() -> None:
    windows = profile_of().windows
    end = horizon(NOW, windows)
    assert NOW - end >= timedelta(seconds=60)
    window = next_window(begin_run(place_at(end, windows), windows), NOW)
    assert window is not None
    assert end - window.start >= timedelta(minutes=10)


def test_16_a_record_that_moves_while_it_is_read_is_published_as_it_ends(
    sandbox: ShopSandbox, shop_profile: TenantProfile, extraction: Callable[..., Any]
) -> None:
    clock = FakeClock(NOW)
    customer = next(
        c
        for c in sandbox.shop.customers.records.values()
        if c.leaf("Email") and "@example.com" in str(c.leaf("Email"))
    )

    class Moving:
        """Changes a customer between the call that lists it and the one that reads it."""

        moved = False

        def handle(self, request: httpx.Request) -> httpx.Response:
            if b"<RetrieveCustomers " in request.content and not self.moved:
                self.moved = True
                customer.body["FirstName"] = "Moved"
                sandbox.shop.customers.touch(customer, sandbox.shop.local(NOW))
            return sandbox.handle(request)

    found = extraction(Moving(), shop_profile, clock).run()
    before = len(found.kafka.records)
    clock.advance(600)
    found.poll()
    groups = [
        group
        for group in found.raw(Entity.CONTACTS).values()
        for each in group["customers"]
        if each["ID"] == str(customer.id)
    ]
    assert [c["FirstName"] for g in groups for c in g["customers"] if c["ID"] == str(customer.id)] == [
        "Moved"
    ]
    again = [r for r in found.kafka.records[before:] if r.topic == "estar.contacts.v1"]
    assert again == []  # read once more, and unchanged


def test_17_records_of_one_second_at_a_windows_edge_are_in_one_of_two_windows(
    sandbox: ShopSandbox, shop_profile: TenantProfile, extraction: Callable[..., Any]
) -> None:
    edge = NOW - timedelta(days=30)
    local = sandbox.shop.local(edge)
    ids = sorted(sandbox.shop.customers.records)[:4]
    moments = [local, local, local + timedelta(milliseconds=7), local - timedelta(milliseconds=7)]
    for identity, moment in zip(ids, moments, strict=True):
        sandbox.shop.customers.touch(sandbox.shop.customers.records[identity], moment)
    source = extraction(sandbox, shop_profile, FakeClock(NOW)).source
    hour = timedelta(hours=1)
    listed = [
        *source.list_customers_modified(Window(edge - hour, edge)),
        *source.list_customers_modified(Window(edge, edge + hour)),
    ]
    assert {str(identity) for identity in ids} <= set(listed)
    start, end = shop_bounds(Window(edge, edge + hour), shop_profile.zone)
    assert (start, end) == (local - timedelta(seconds=1), local + hour)


@pytest.mark.parametrize(
    ("text", "price"), [("1,299.00", 1299.0), ("$19.95", 19.95), ("0.1000", 0.1), ("1,299,000.5", 1299000.5)]
)
def test_18_money_is_read_exactly_or_not_at_all(text: str, price: float) -> None:
    assert product(Price=text)["price"] == price
    for bad in ("19,95", "NaN", "1.2.3", "ten", "1e3"):
        assert refused(partial(product, Price=bad))[0] == "price"


def test_19_the_currency_is_the_websites_or_the_order_is_refused() -> None:
    assert document(order())["currency"] == "NZD"
    assert document(order(Website="2"))["currency"] == "AUD"
    assert refused(lambda: order(Website="3")) == ("currency", "unknown_website")
    assert product(Websites=["2"])["currency"] == "AUD"


@pytest.mark.parametrize(
    ("price", "sale", "special"),
    [("10", "8", 8.0), ("10", "0", None), ("10", None, None), ("10", "12", None), ("0", "0", None)],
)
def test_20_a_special_price_is_between_nothing_and_the_price(
    price: str, sale: str | None, special: float | None
) -> None:
    assert product({"Price": price, "SalePrice": sale})["specialprice"] == special


@pytest.mark.parametrize(
    ("image", "url"),
    [
        ("images/a b.jpg", "https://shop.example/images/a%20b.jpg"),
        ("/tāonga.jpg", "https://shop.example/t%C4%81onga.jpg"),
        ("http://cdn.example/a.jpg", "http://cdn.example/a.jpg"),
        ("//cdn.example/a.jpg", "https://cdn.example/a.jpg"),
        ("\\images\\a.jpg", "https://shop.example/images/a.jpg"),
        ("", None),
        (None, None),
    ],
)
def test_21_an_image_is_an_absolute_url_or_null(image: str | None, url: str | None) -> None:
    assert product(Images=[{"Name": "Main", "Value": image}])["image_path"] == url


def test_22_a_discontinued_or_embargoed_product_is_disabled_until_its_day() -> None:
    assert product(Status="0")["status"] == "Disabled"
    opens = "2026-03-01T09:00:00"
    early, late = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 28, 20, 0, tzinfo=UTC)
    assert product(AvailableFrom=opens, now=early)["status"] == "Disabled"
    assert (
        product(AvailableFrom=opens, now=late)["status"] == "Enabled"
    )  # nine in the morning of March in Auckland
    assert (
        product(AvailableFrom=opens, now=early, more="products: {embargoed: enabled}")["status"] == "Enabled"
    )
    assert product(AvailableFrom="0001-01-01T00:00:00", now=early)["status"] == "Enabled"


def test_23_a_barcode_is_text_and_one_of_two_wins() -> None:
    profile = profile_of()
    rows = [
        {"ID": "1", "Title": "Off", "Price": "1", "Status": "0", "Items": [{"Barcode": "0094"}]},
        {
            "ID": "2",
            "Title": "On",
            "Price": "1",
            "Status": "1",
            "Items": [{"Barcode": "0094"}, {"Barcode": "9.4E+12"}],
        },
    ]
    grouped = group_items(decoded(rows, profile), profile.products.enabled_statuses, profile.zone)
    found = {key: document(mapped)["name"] for key, mapped in sent(Entity.PRODUCTS, grouped, profile).items()}
    assert found == {"0094": "On", "9.4E+12": "On"}


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Salt &amp; Pepper", "Salt & Pepper"),
        ("Fish &amp;amp; Chips", "Fish & Chips"),
        ("Cosy<br/>Throw <b>L</b>", "Cosy Throw L"),
    ],
)
def test_24_titles_lose_their_html(title: str, name: str) -> None:
    assert product(Title=title)["name"] == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Ma\u0304ia", "Māia"),
        (" Zoë 🌸\u00a0", "Zoë 🌸"),
        ("Jean\u200b-Luc\u200f", "Jean-Luc"),
        ("\u202eאבא", "אבא"),
    ],
)
def test_25_names_keep_their_macrons_and_lose_what_nobody_sees(text: str, name: str) -> None:
    assert contact(FirstName=text)["FIRSTNAME"] == name


def test_26_a_character_that_xml_forbids_does_not_spoil_the_answer() -> None:
    found = contacts(
        {"ID": "1", "Email": "a@x.nz", "FirstName": "&#x1F;Ann&#x0;"},
        {"ID": "2", "Email": "b@x.nz", "FirstName": "Ben"},
    )
    assert (found["a@x.nz"]["FIRSTNAME"], found["b@x.nz"]["FIRSTNAME"]) == ("Ann", "Ben")


def test_27_four_kinds_of_nothing_clear_a_field_and_an_unmapped_one_is_left_alone() -> None:
    for fields in ({}, {"FirstName": None}, {"FirstName": ""}, {"FirstName": " \t"}):
        assert contact(**fields)["FIRSTNAME"] is None
    profile = profile_of("contacts: {fields: {CUSTOMER_TYPE: null}}")
    grouped = group_customers(decoded([{"ID": "1", "Email": "a@x.nz", "CustomerType": "1"}], profile))
    assert "CUSTOMER_TYPE" in document(sent(Entity.CONTACTS, grouped, profile)["a@x.nz"])["omitted"]


def test_28_long_text_is_cut_between_characters_and_a_long_order_is_one_record() -> None:
    name = contact(FirstName="e\u0301" * 2000 + "👩‍👩‍👧")["FIRSTNAME"]
    assert (len(name), set(name)) == (1000, {"é"})
    long = document(order(*({**LINE, "ID": str(n), "Barcode": f"B{n}"} for n in range(5000))))
    assert (len(long["products"]), long["order_total"]) == (5000, 100_000.0)


def test_29_an_id_may_be_a_number_or_text_and_one_element_is_a_list() -> None:
    for number in (100045, "100045"):
        body = json.dumps(
            {"subscriber": 1, "sequence": 2, "type": "order.voided", "message": {"orderID": number}}
        )
        assert order_ids(read_notification(body.encode()), profile_of().notifications.order_ids) == ["100045"]
    assert contact(Addresses=[{"Type": "Billing", "City": "Auckland"}])["BILLING_CITY"] == "Auckland"


def test_30_countries_are_as_the_profile_says_and_postcodes_are_text() -> None:
    address = {"Type": "Billing", "Country": " nz ", "State": "NT", "Postcode": "0800"}
    found = contact("countries: {NZ: New Zealand}", Addresses=[address])
    assert (found["BILLING_COUNTRY"], found["BILLING_STATE"], found["BILLING_POSTCODE"]) == (
        "New Zealand",
        "NT",
        "0800",
    )
    assert contact(Addresses=[address])["BILLING_COUNTRY"] == "nz"


@pytest.mark.parametrize("phone", ["09 123 4567", "+64 21 555 010", "021-555-011 ext. 4"])
def test_31_a_phone_is_sent_as_it_is_written(phone: str) -> None:
    assert contact(Phone=f" {phone} ")["BILLING_TELEPHONE"] == phone


@pytest.mark.parametrize(
    ("text", "born"),
    [
        ("1980-02-03", date(1980, 2, 3)),
        ("1900-01-01", None),
        ("2087-05-05", None),
        ("31/02/1980", None),
        ("03/02/1980", None),
    ],
)
def test_32_a_birth_that_can_not_be_is_left_out(text: str, born: date | None) -> None:
    fields: dict[str, Any] = {
        "Attributes": [{"Name": "DOB", "Value": text}],
        "DateModified": "2024-01-01T00:00:00",
    }
    assert contact(**fields)["DOB"] == born
    if text == "03/02/1980":
        by = "contacts: {fields: {DOB: {attribute: DOB, use: [day_first]}}}"
        assert contact(by, **fields)["DOB"] == date(1980, 2, 3)


def test_33_an_id_that_is_listed_and_not_returned_is_a_dead_letter(
    sandbox: ShopSandbox, shop_profile: TenantProfile, extraction: Callable[..., Any]
) -> None:
    identity = next(iter(sandbox.shop.orders.records))
    sandbox.faults.set(Faults(vanished={"orders": frozenset({identity})}))
    found = extraction(sandbox, shop_profile, FakeClock(NOW)).run()
    assert found.dead()[f"orders:{identity}"] == "not_returned"
    assert len(found.raw(Entity.ORDERS)) > 20


def test_34_a_merged_customer_leaves_when_the_one_it_went_into_is_read(
    sandbox: ShopSandbox, shop_profile: TenantProfile, extraction: Callable[..., Any]
) -> None:
    clock = FakeClock(NOW)
    kept, merged = list(sandbox.shop.customers.records.values())[:2]
    kept.body["Email"] = merged.body["Email"] = "one@shop.example"
    found = extraction(sandbox, shop_profile, clock).run()
    assert len(found.raw(Entity.CONTACTS)["one@shop.example"]["customers"]) == 2
    sandbox.faults.set(Faults(vanished={"customers": frozenset({merged.id})}))
    sandbox.shop.customers.touch(kept, sandbox.shop.local(NOW + timedelta(minutes=5)))
    clock.advance(3600)
    found.poll()
    assert [c["ID"] for c in found.raw(Entity.CONTACTS)["one@shop.example"]["customers"]] == [str(kept.id)]


def test_35_an_expired_token_and_a_firewalls_page_are_passed_over(
    shop_profile: TenantProfile, extraction: Callable[..., Any]
) -> None:
    shop = ShopSandbox(generate(20, 1, ZoneInfo("Europe/London")), FakeClock(NOW), Access(token_calls=3))
    shop.faults.set(Faults(seed=1, html=0.2))
    found = extraction(shop, shop_profile, FakeClock(NOW)).run()
    assert shop.calls["Customers.Authenticate"] > 3
    assert shop.faults.played["html"] > 0
    assert len(found.raw(Entity.CONTACTS)) > 10


def test_36_a_satellite_sites_url_is_told_at_start(shop_profile: TenantProfile) -> None:
    satellite = httpx.MockTransport(
        lambda _: httpx.Response(404, html="<html>The resource cannot be found.</html>")
    )
    client = EstarClient(
        httpx.Client(transport=satellite),
        shop_profile,
        "https://satellite.example",
        Credentials("sandbox", "sandbox"),
        clock=FakeClock(NOW),
        rng=random.Random(1),  # noqa: S311 - spreads pauses
        metrics=Metrics(CollectorRegistry()),
    )
    with pytest.raises(
        ConfigurationError, match=r"has no eStar API \(HTTP 404\): give the primary site's URL"
    ):
        client.authenticate()


def test_37_a_replayed_notification_is_settled_and_a_forged_one_refused() -> None:
    body = b'{"subscriber": 1, "sequence": 7, "type": "order.voided", "message": {"orderID": "5"}}'
    good = sign(b"secret", body)
    assert is_signed(body, good, [b"secret"])
    for forged in (b"", b"x", sign(b"other", body), good[:-1]):
        assert not is_signed(body, forged, [b"secret"])
    assert not is_signed(body.replace(b"7", b"8"), good, [b"secret"])
    sequences = Sequences({}, 0.0)
    place = (read_notification(body).subscriber, read_notification(body).sequence)
    assert [sequences.arrived(place, now) for now in (1.0, 2.0)] == [True, False]


@pytest.mark.parametrize("setting", ["remove", "keep"])
def test_09_a_replacement_from_the_shop_agrees_with_its_truth(
    sandbox: ShopSandbox, extraction: Callable[..., Any], setting: str
) -> None:
    text = profile_path().read_text("utf-8") + f"orders: {{replacements: {setting}, voided: {setting}}}"
    profile = load_profile(text, "test")
    contract = Contract(profile)
    editor = Editor(sandbox.shop, contract, random.Random(1))  # noqa: S311 - the same every time
    edited = [
        editor.apply(Edit(kind=kind), sandbox.shop.local(NOW - timedelta(hours=1)))
        for kind in ("replace", "void")
    ]
    expected = {each.id: each for each in truth(sandbox.shop, contract).orders}
    mapped = extraction(sandbox, profile, FakeClock(NOW)).run().mapped(Entity.ORDERS)
    sent_orders = {
        key: each.document for key, each in mapped.items() if isinstance(each, Mapped) and each.document
    }
    assert sent_orders.keys() == expected.keys()
    assert {key: f"{each['order_total']:.2f}" for key, each in sent_orders.items()} == {
        key: each.total for key, each in expected.items()
    }
    assert [str(each.id) in sent_orders for each in edited] == [setting == "keep"] * 2
