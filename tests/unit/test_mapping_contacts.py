import json
from datetime import date
from typing import Any

import pytest

from estarsync_core.dotdigital.fields import BUILT_IN_FIELDS, CREATED_FIELDS, DATA_FIELDS
from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError, InvalidRecord
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.mapping.result import Document, Mapped
from estarsync_core.profile import load_profile

Record = dict[str, Any]
Notes = tuple[tuple[str, str], ...]

WEBSITES = """
websites:
  "1": {currency: NZD, product_url: "https://shop.example/product/{id}", image_base: "https://shop.example"}
"""
KEY = "aroha@shop.example"


def mapper(fields: str = "") -> Mapper:
    return Mapper(load_profile(WEBSITES + (f"contacts: {{fields: {{{fields}}}}}" if fields else ""), "test"))


DEFAULT = mapper()


def customer(**changes: object) -> Record:
    return {"ID": "7", "Email": KEY} | changes


def attributes(**values: str | None) -> list[Record]:
    return [{"Name": name, "Value": value} for name, value in values.items()]


def map_customers(*customers: Record, by: Mapper = DEFAULT, **group: object) -> Mapped:
    return by.record(Entity.CONTACTS, KEY, json.dumps({"customers": customers} | group).encode())


def document_of(mapped: Mapped) -> Document:
    assert mapped.document is not None
    return mapped.document


def fields_of(*customers: Record, by: Mapper = DEFAULT) -> Document:
    fields: Document = document_of(map_customers(*customers, by=by))["data_fields"]
    return fields


def test_every_field_of_the_integration() -> None:
    mapped = map_customers(
        customer(
            Email=" Aroha@Shop.Example ",
            FirstName="Aroha ",
            LastName="Nga\u0304ta",
            Phone="09 123 4567",
            Mobile="021 123 456",
            CustomerType="2",
            LpmStatus="0",
            Account={"AccountID": "9", "AccountType": "VIP"},
            Attributes=attributes(Active="true", DOB="1980-02-03T00:00:00", OnCreditHold="No"),
            Addresses=[
                {"Type": "Shipping", "Street": "9 Queen St"},
                {
                    "Type": "Billing",
                    "ContactPhone": "+64 9 999",
                    "Company": "Shop Ltd",
                    "Street": "1 Cuba St",
                    "Suburb": "Te Aro",
                    "State": "WGN",
                    "City": "Wellington",
                    "Postcode": "0610",
                    "Country": " New Zealand ",
                },
            ],
            DateModified="2024-01-02T03:04:05",
        ),
        renamed_from="Old@Shop.Example",
    )
    assert mapped.document == {
        "email": KEY,
        "renamed_from": "old@shop.example",
        "data_fields": {
            "FIRSTNAME": "Aroha",
            "LASTNAME": "Ngāta",
            "FULLNAME": "Aroha Ngāta",
            "BILLING_ADDRESS_1": "1 Cuba St",
            "BILLING_ADDRESS_2": "Te Aro",
            "BILLING_CITY": "Wellington",
            "BILLING_COMPANY": "Shop Ltd",
            "BILLING_COUNTRY": "New Zealand",
            "BILLING_POSTCODE": "0610",
            "BILLING_STATE": "WGN",
            "BILLING_TELEPHONE": "+64 9 999",
            "CUSTOMER_ACTIVE": True,
            "CUSTOMER_ID": "7",
            "CUSTOMER_TYPE": "2",
            "CUSTOMER_USER_GROUP": "VIP",
            "DOB": date(1980, 2, 3),
            "NEWSLETTER_SUBSCRIBE": False,
            "ON_CREDIT_HOLD": False,
        },
        "omitted": [],
    }
    assert mapped.dropped == ()
    assert mapped.reason is None


def test_a_customer_with_nothing_clears_every_field() -> None:
    mapped = map_customers(customer(ID=" "))
    assert document_of(mapped)["data_fields"] == dict.fromkeys(DATA_FIELDS)
    assert document_of(mapped)["omitted"] == []


@pytest.mark.parametrize("nothing", [None, "", " "])
def test_nil_and_empty_clear_as_absent_does(nothing: str | None) -> None:
    sent = fields_of(customer(FirstName=nothing, LpmStatus=nothing, Attributes=attributes(DOB=nothing)))
    assert (sent["FIRSTNAME"], sent["NEWSLETTER_SUBSCRIBE"], sent["DOB"]) == (None, None, None)


def test_a_field_that_the_profile_does_not_map_is_omitted() -> None:
    mapped = map_customers(
        customer(Attributes=attributes(DOB="1980-02-03")), by=mapper("DOB: null, CUSTOMER_ACTIVE: null")
    )
    assert document_of(mapped)["omitted"] == ["CUSTOMER_ACTIVE", "DOB"]
    assert document_of(mapped)["data_fields"]["DOB"] is None
    assert mapped.dropped == ()


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"Attributes": attributes(DOB="31/12/1980")}, "DOB", "not_a_time"),
        ({"Attributes": attributes(DOB="1850-01-01")}, "DOB", "out_of_range"),
        ({"Attributes": attributes(DOB="2024-06-01"), "DateModified": "2024-01-02"}, "DOB", "out_of_range"),
        ({"Attributes": attributes(Active="perhaps")}, "CUSTOMER_ACTIVE", "not_a_boolean"),
    ],
)
def test_a_bad_optional_field_is_left_out_and_reported(changes: Record, field: str, code: str) -> None:
    mapped = map_customers(customer(FirstName="Aroha", **changes))
    assert document_of(mapped)["omitted"] == [field]
    assert document_of(mapped)["data_fields"][field] is None
    assert document_of(mapped)["data_fields"]["FIRSTNAME"] == "Aroha"
    assert mapped.dropped == ((field, code),)


def test_a_birth_is_kept_where_the_record_has_no_usable_time() -> None:
    sent = fields_of(customer(Attributes=attributes(DOB="1980-02-03"), DateModified="yesterday"))
    assert sent["DOB"] == date(1980, 2, 3)


def test_placeholder_dates_are_nothing() -> None:
    assert fields_of(customer(Attributes=attributes(DOB="1900-01-01")))["DOB"] is None


def test_an_unknown_consent_code_is_not_guessed() -> None:
    mapped = map_customers(customer(LpmStatus="7"))
    assert document_of(mapped)["omitted"] == ["NEWSLETTER_SUBSCRIBE"]
    assert mapped.dropped == (
        ("NEWSLETTER_SUBSCRIBE", "not_in_lookup"),
        ("NEWSLETTER_SUBSCRIBE", "not_a_boolean"),
    )


def test_lookups_translate_and_let_unknown_codes_through() -> None:
    by = mapper('CUSTOMER_TYPE: {path: CustomerType, lookup: {"1": Retail}}')
    assert fields_of(customer(CustomerType="1"), by=by)["CUSTOMER_TYPE"] == "Retail"
    mapped = map_customers(customer(CustomerType="8"), by=by)
    assert document_of(mapped)["data_fields"]["CUSTOMER_TYPE"] == "8"
    assert mapped.dropped == (("CUSTOMER_TYPE", "not_in_lookup"),)


@pytest.mark.parametrize(
    ("first", "last", "full"),
    [
        ("Aroha", None, "Aroha"),
        (" ", "Ngata", "Ngata"),
        ("A", "B", "A B"),
        (None, None, None),
    ],
)
def test_full_name(first: str | None, last: str | None, full: str | None) -> None:
    assert fields_of(customer(FirstName=first, LastName=last))["FULLNAME"] == full


def test_text_that_is_too_long_is_cut_and_reported() -> None:
    mapped = map_customers(customer(FirstName="x" * 1200))
    assert document_of(mapped)["data_fields"]["FIRSTNAME"] == "x" * 1000
    assert mapped.dropped == (("FIRSTNAME", "cut"), ("FULLNAME", "cut"))
    assert document_of(mapped)["omitted"] == []


@pytest.mark.parametrize(
    ("changes", "phone"),
    [
        ({"Addresses": [{"ContactPhone": "1"}], "Phone": "2", "Mobile": "3"}, "1"),
        ({"Addresses": [{"ContactPhone": " "}], "Phone": "2", "Mobile": "3"}, "2"),
        ({"Phone": None, "Mobile": "3"}, "3"),
        ({}, None),
    ],
)
def test_telephone(changes: Record, phone: str | None) -> None:
    assert fields_of(customer(**changes))["BILLING_TELEPHONE"] == phone


def test_without_a_billing_address_the_first_one_counts() -> None:
    addresses = [{"Type": "Shipping", "City": "Nelson"}, {"Type": None, "City": "Napier"}]
    assert fields_of(customer(Addresses=addresses))["BILLING_CITY"] == "Nelson"


ACTIVE, INACTIVE = attributes(Active="1"), attributes(Active="0")


@pytest.mark.parametrize(
    "group",
    [
        [
            customer(ID="9", Attributes=INACTIVE, DateModified="2024-05-01"),
            customer(ID="1", Attributes=ACTIVE),
        ],
        [customer(ID="9", DateModified="2024-01-01"), customer(ID="1", DateModified="2024-01-02")],
        [customer(ID="0", DateModified="2024-01-01"), customer(ID="1", DateModified="2024-01-01T00:00:01")],
        [customer(ID="-9"), customer(ID="A7"), customer(ID="1")],
        [customer(ID="0"), customer(ID="1", Attributes=attributes(Active="perhaps"))],
        [customer(ID="9", Attributes=INACTIVE), customer(ID="1", DateModified="rubbish")],
    ],
)
def test_the_winner_is_active_then_latest_then_highest(group: list[Record]) -> None:
    assert fields_of(*group)["CUSTOMER_ID"] == "1"
    assert fields_of(*reversed(group))["CUSTOMER_ID"] == "1"


def test_ids_compare_as_numbers() -> None:
    assert fields_of(customer(ID="9"), customer(ID="10"), customer(ID="009"))["CUSTOMER_ID"] == "10"


def test_without_a_source_of_activity_everybody_is_active() -> None:
    group = [customer(ID="2", Attributes=INACTIVE), customer(ID="1", Attributes=ACTIVE)]
    assert fields_of(*group, by=mapper("CUSTOMER_ACTIVE: null"))["CUSTOMER_ID"] == "2"


def test_a_field_may_come_from_an_element_that_only_this_shop_has() -> None:
    by = mapper(
        "DOB: {attribute: null, path: AdditionalDetails.BirthDate}, CUSTOMER_USER_GROUP: {path: Tier}"
    )
    sent = fields_of(customer(AdditionalDetails={"BirthDate": "1980-02-03"}, Tier="Gold"), by=by)
    assert (sent["DOB"], sent["CUSTOMER_USER_GROUP"]) == (date(1980, 2, 3), "Gold")
    assert fields_of(customer(), by=by)["DOB"] is None
    mapped = map_customers(customer(Tier=["Gold"], AdditionalDetails="none"), by=by)
    assert mapped.dropped == (("CUSTOMER_USER_GROUP", "wrong_type"), ("DOB", "not_a_time"))


@pytest.mark.parametrize(
    ("former", "sent", "dropped"),
    [
        (None, None, ()),
        (" ", None, ()),
        (KEY.upper(), None, ()),
        ("nobody", None, (("renamed_from", "not_an_email"),)),
    ],
)
def test_the_former_email(former: str | None, sent: str | None, dropped: Notes) -> None:
    mapped = map_customers(customer(), renamed_from=former)
    assert (document_of(mapped)["renamed_from"], mapped.dropped) == (sent, dropped)


@pytest.mark.parametrize(
    ("value", "field", "code"),
    [
        (b"", "value", "not_json"),
        (b"\xff", "value", "not_json"),
        (b'{"customers":[{"ID":"\\ud800"}]}', "value", "not_json"),
        (b'{"customers":[{"ID":"\xff"}]}', "value", "not_json"),
        (b'{"customers":[{"ID":"1","x":' + b"[" * 10**5 + b"]" * 10**5 + b"}]}", "value", "not_json"),
        (b"[]", "value", "wrong_type"),
        (b'{"customers":[{"ID":7}]}', "customers[0].ID", "wrong_type"),
        (b'{"customers":[{}]}', "customers[0]", "missing"),
        (b"{}", "value", "missing"),
        (b'{"customers":[]}', "customers", "missing"),
        (b'{"customers":[{"ID":"7"}]}', "email", "missing"),
        (b'{"customers":[{"ID":"7","Email":"noemail"}]}', "email", "not_an_email"),
        (b'{"customers":[{"ID":"7","Email":"b@shop.example"}]}', "email", "key_mismatch"),
    ],
)
def test_what_is_no_contact(value: bytes, field: str, code: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        DEFAULT.record(Entity.CONTACTS, KEY, value)
    assert (caught.value.field, caught.value.code) == (field, code)


@pytest.mark.parametrize("path", ["Account", "Addresses", "ID.x", "", ".x", "Tier.", "a b"])
def test_a_path_that_holds_no_text_is_refused_at_start(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"contacts\.fields\.CUSTOMER_TYPE\.path"):
        mapper(f"CUSTOMER_TYPE: {{path: {path!r}}}")


def test_the_table_of_data_fields() -> None:
    assert len(CREATED_FIELDS) == 15
    assert set(DATA_FIELDS) == set(CREATED_FIELDS) | set(BUILT_IN_FIELDS)
    assert {name for name, kind in DATA_FIELDS.items() if kind != "String"} == {
        "CUSTOMER_ACTIVE",
        "DOB",
        "NEWSLETTER_SUBSCRIBE",
        "ON_CREDIT_HOLD",
    }
    assert max(map(len, DATA_FIELDS)) <= 20


@pytest.mark.parametrize(
    ("groups", "value"),
    [
        (["News", "Sale"], True),
        ([" News "], True),
        (["news"], False),
        ([], False),
        (None, None),
        ([None], False),
    ],
)
def test_an_interest_group_may_hold_consent(groups: list[str | None] | None, value: object) -> None:
    by = mapper("NEWSLETTER_SUBSCRIBE: {interest_group: News}")
    record = customer() if groups is None else customer(InterestGroups=groups)
    assert fields_of(record, by=by)["NEWSLETTER_SUBSCRIBE"] is value


@pytest.mark.parametrize(
    ("source", "raw", "sent"),
    [
        ("use: [lower]", "VIP", "vip"),
        ("use: [upper, digits]", "vip 12", "12"),
        ("use: [digits, upper]", "vip", None),
        ("lookup: {1: Retail}", "1", "Retail"),
        ("lookup: {1: Retail}", "2", "2"),
        ("lookup: {1: Retail}, unknown: omit", "2", None),
        ("default: none", "", "none"),
        ("default: none", "x", "x"),
        ("use: [lower], lookup: {a: b}", "A", "b"),
    ],
)
def test_a_fields_text_is_transformed_looked_up_and_defaulted(
    source: str, raw: str, sent: str | None
) -> None:
    by = mapper(f"CUSTOMER_TYPE: {{path: CustomerType, {source}}}")
    assert fields_of(customer(CustomerType=raw), by=by)["CUSTOMER_TYPE"] == sent


def test_a_text_that_the_lookup_may_not_let_through_is_omitted_and_reported() -> None:
    by = mapper("CUSTOMER_TYPE: {path: CustomerType, lookup: {1: Retail}, unknown: omit}")
    mapped = map_customers(customer(CustomerType="2"), by=by)
    assert "CUSTOMER_TYPE" in document_of(mapped)["omitted"]
    assert mapped.dropped == (("CUSTOMER_TYPE", "not_in_lookup"),)


@pytest.mark.parametrize(
    ("use", "raw", "sent"),
    [
        ("day_first", "3/4/1980", date(1980, 4, 3)),
        ("month_first", "3/4/1980", date(1980, 3, 4)),
        ("day_first", "03.04.1980 00:00:00", date(1980, 4, 3)),
        ("day_first", "1980-04-03T00:00:00", date(1980, 4, 3)),
        ("day_first", "31/12/80", None),
        ("month_first", "31/12/1980", None),
    ],
)
def test_a_date_is_read_as_the_profile_says(use: str, raw: str, sent: date | None) -> None:
    by = mapper(f"DOB: {{attribute: DOB, use: [{use}]}}")
    assert fields_of(customer(Attributes=attributes(DOB=raw)), by=by)["DOB"] == sent


@pytest.mark.parametrize(("raw", "sent"), [("1", False), ("no", True), ("maybe", None), ("", None)])
def test_a_flag_may_say_the_opposite(raw: str, sent: object) -> None:
    by = mapper("CUSTOMER_ACTIVE: {attribute: Closed, use: [invert]}")
    assert fields_of(customer(Attributes=attributes(Closed=raw)), by=by)["CUSTOMER_ACTIVE"] is sent


@pytest.mark.parametrize(
    ("rule", "codes", "sent"),
    [
        ("winner", ["1", "0", "0"], False),
        ("all", ["0", "1", "1"], False),
        ("all", ["1", "", "1"], True),
        ("any", ["1", "0", "0"], True),
        ("any", ["0", "", "0"], False),
        ("any", ["", "", ""], None),
        ("any", ["1", "x", "x"], True),
        ("all", ["1"], True),
    ],
)
def test_consent_of_a_shared_email_is_by_the_profiles_rule(rule: str, codes: list[str], sent: object) -> None:
    by = Mapper(load_profile(WEBSITES + f"contacts: {{shared_consent: {rule}}}", "test"))
    customers = [customer(ID=str(number), LpmStatus=code) for number, code in enumerate(codes)]
    assert fields_of(*customers, by=by)["NEWSLETTER_SUBSCRIBE"] is sent


def test_consent_that_is_not_mapped_is_nobodys_whatever_the_rule() -> None:
    text = "contacts: {shared_consent: all, fields: {NEWSLETTER_SUBSCRIBE: null}}"
    mapped = map_customers(customer(), customer(ID="8"), by=Mapper(load_profile(WEBSITES + text, "test")))
    assert "NEWSLETTER_SUBSCRIBE" in document_of(mapped)["omitted"]


def test_countries_are_sent_as_the_profile_says() -> None:
    by = Mapper(load_profile(WEBSITES + "countries: {NZ: New Zealand}", "test"))
    for raw, sent in {" nz ": "New Zealand", "Fiji": "Fiji", "": None}.items():
        found = fields_of(customer(Addresses=[{"Type": "Billing", "Country": raw}]), by=by)
        assert found["BILLING_COUNTRY"] == sent
