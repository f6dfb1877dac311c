"""The tenant profile: laid over the default, every problem with its line and its key, described by a schema."""

import json
from datetime import date
from importlib.resources import files

import jsonschema
import pytest
import yaml

from estarsync_core.errors import ConfigurationError
from estarsync_core.profile import default_document, load_profile
from estarsync_core.profile_schema import profile_schema

WEBSITES = """
websites:
  "1": {currency: NZD, product_url: "https://shop.example/p/{id}", image_base: "https://shop.example"}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as error:
        load_profile(text, "shop.yaml")
    return list(error.value.problems)


def test_a_profile_holds_only_what_differs():
    profile = load_profile(
        WEBSITES
        + "timezone: Europe/London\nsoap: {operations: {retrieve_orders: {operation: RetrieveOrders}}}",
        "x",
    )
    assert profile.zone.key == "Europe/London"
    assert profile.soap.operations.retrieve_orders.operation == "RetrieveOrders"
    assert profile.soap.operations.retrieve_orders.service == "Orders"
    assert profile.history_start == date(2000, 1, 1)
    assert "Password" in profile.records.drop


def test_a_fields_source_replaces_the_default_one():
    profile = load_profile(WEBSITES + "contacts: {fields: {DOB: {path: BirthDate}}}", "x")
    source = profile.contacts.fields["DOB"]
    assert source is not None
    assert (source.path, source.attribute) == ("BirthDate", None)


def test_a_field_can_be_left_unmapped():
    profile = load_profile(WEBSITES + "contacts: {fields: {DOB: null}}", "x")
    assert profile.contacts.fields["DOB"] is None


def test_what_is_dropped_is_only_ever_more():
    profile = load_profile(WEBSITES + "records: {drop: [Diary], lists: [Badges]}", "x")
    assert {"Diary", "Password", "CardNumber"} <= profile.records.drop
    assert {"Badges", "Items"} <= profile.records.lists


def test_keys_and_codes_need_no_quotes():
    profile = load_profile(
        WEBSITES.replace('"1"', "1")
        + """
soap: {version: 1.2}
default_website: 1
lookups: {kinds: {1: Retail, 2: 7, true: false}}
contacts: {fields: {CUSTOMER_TYPE: {path: CustomerType, lookup: kinds, default: 1}}}
countries: {NO: Norway}
null_dates: [1970-01-01]
""",
        "x",
    )
    assert profile.soap.version == "1.2"
    assert profile.lookups["kinds"] == {"1": "Retail", "2": "7", "true": "false"}
    assert profile.countries == {"NO": "Norway"}
    source = profile.contacts.fields["CUSTOMER_TYPE"]
    assert source is not None
    assert (profile.lookup_of(source)["1"], source.default) == ("Retail", "1")
    assert profile.null_dates == {date(1970, 1, 1)}


def test_merge_keys_and_aliases_are_read():
    text = "base: &base {a: 1}\nfields:\n  <<: *base\n  b: 2\nmore: *base"
    found = problems(WEBSITES + text)
    assert [problem.split(":")[2].strip() for problem in found] == ["base", "fields", "more"]


def test_overrides_go_before_the_text():
    text = WEBSITES + "orders: {voided: keep}"
    assert load_profile(text, "x", {"orders": {"voided": "remove"}}).orders.voided == "remove"
    assert load_profile(text, "x").orders.voided == "keep"


def test_every_problem_is_told_at_once_with_its_line():
    found = problems(
        WEBSITES
        + """\
timezone: Mars/Olympus
windows: {overlap_minutes: -1}
contact: {}
soap:
  operations:
    retrieve_orders:
      operaton: x
      batch: 0
"""
    )
    assert found == [
        "shop.yaml:4: timezone: 'Mars/Olympus' is not an IANA time zone, such as Pacific/Auckland",
        "shop.yaml:5: windows.overlap_minutes: must be greater than or equal to 0, not -1",
        "shop.yaml:6: contact: is an unknown key: did you mean contacts?",
        "shop.yaml:10: soap.operations.retrieve_orders.operaton: is an unknown key: did you mean operation?",
        "shop.yaml:11: soap.operations.retrieve_orders.batch: must be greater than or equal to 1, not 0",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "shop.yaml:1: websites: "),
        ("a: [", "shop.yaml:1: not YAML: "),
        ("\x01", "shop.yaml: not YAML: "),
        ("[1, 2]", "shop.yaml:1: must be a map"),
        ("&a {x: *a}", "shop.yaml: not YAML: "),
        (WEBSITES + "? [a]\n: 3", "shop.yaml:4: a key must be a word"),
        (WEBSITES + "zz: 1", "shop.yaml:4: zz: is an unknown key: known here: cadences, contacts, "),
        (
            WEBSITES + "contacts:\n  fields:\n    DOB: {path: a}\n    DOB: null",
            "shop.yaml:7: DOB: stands twice",
        ),
        (WEBSITES + 'default_website: "2"', "shop.yaml:4: default_website: '2' is not one of websites"),
        (
            WEBSITES + "contacts: {fields: {DOB: {path: A, lookup: x}}}",
            "shop.yaml:4: contacts.fields.DOB.lookup: 'x' is not one of lookups",
        ),
        (WEBSITES + "contacts: {fields: {DOB: {path: A, attribute: B}}}", "give either path or attribute"),
        (
            WEBSITES + "contacts: {fields: {DOB: {path: A, lookup: [1]}}}",
            "DOB.lookup: must be a map, or the name",
        ),
        (
            WEBSITES + "contacts:\n  fields:\n    DOB: {path: A, use: [lower, reverse]}",
            "shop.yaml:6: contacts.fields.DOB.use.1: must be 'lower', 'upper', 'digits', 'invert', ",
        ),
        (
            WEBSITES + "contacts:\n  fields: {AGE: {path: A}}",
            "shop.yaml:5: contacts.fields.AGE: is no key here: ",
        ),
        (
            WEBSITES.replace("{currency", "{colour: red, currency"),
            "websites.1.colour: is an unknown key: known here: currency, image_base, product_url",
        ),
        (
            WEBSITES + "contacts: {fields: {DOB: {paths: a}}}",
            "contacts.fields.DOB.paths: is an unknown key: did you mean path?",
        ),
        ("websites:\n  2: {currency: nzd}", "shop.yaml:2: websites.2.product_url: is missing: add it"),
        (WEBSITES + "site: {password: {env: A, file: B}}", "site.password: give either env or file"),
        (WEBSITES + "windows: null", "shop.yaml:4: windows: must be a map"),
    ],
)
def test_what_is_wrong_is_said(text, said):
    assert any(said in problem for problem in problems(text)), problems(text)


def test_an_alias_of_aliases_ends():
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8))
    assert "too many values" in problems(f"a0: &a0 x\n{levels}")[0]


def test_a_password_in_the_wrong_place_is_not_quoted():
    assert "hunter2" not in str(problems(WEBSITES + "site: {password: hunter2}"))


def test_the_default_has_everything_but_websites():
    assert default_document()["websites"] == {}


def test_the_published_schema_is_the_models():
    published = files("estarsync_schemas").joinpath("profile/tenant-profile.schema.json").read_text("utf-8")
    assert json.loads(published) == profile_schema(), "it is stale: make profile-schema"


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (WEBSITES, True),
        (
            WEBSITES + "contacts: {fields: {DOB: {attribute: Birth, use: [day_first]}, CUSTOMER_TYPE: null}}",
            True,
        ),
        (WEBSITES + "soap: {version: 1.2, operations: {list_products: {operation: All}}}", True),
        (WEBSITES + "surprise: 1", False),
        (WEBSITES + "windows: {max_ids: 0}", False),
        ("timezone: Europe/London", False),
        ("websites: {a: {currency: NZD}}", False),
    ],
)
def test_the_schema_and_the_reader_agree(text, valid):
    schema = profile_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert jsonschema.Draft202012Validator(schema).is_valid(yaml.safe_load(text)) == valid
    try:
        load_profile(text, "x")
    except ConfigurationError:
        assert not valid
    else:
        assert valid
