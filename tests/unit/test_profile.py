"""The tenant profile: laid over the default, every problem named."""

from datetime import date

import pytest

from estarsync_core.errors import ConfigurationError
from estarsync_core.profile import default_document, load_profile

WEBSITES = """
websites:
  "1": {currency: NZD, product_url: "https://shop.example/p/{id}", image_base: "https://shop.example"}
"""


def problems(text: str) -> str:
    with pytest.raises(ConfigurationError) as error:
        load_profile(text, "shop.yaml")
    assert all(problem.startswith("shop.yaml") for problem in error.value.problems)
    return str(error.value)


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


def test_a_profile_without_websites_is_refused():
    assert "websites" in problems("")


def test_every_problem_is_named_at_once():
    found = problems(WEBSITES + "timezone: Mars/Olympus\nwindows: {overlap_minutes: -1}\nsurprise: 1")
    assert "timezone" in found
    assert "windows.overlap_minutes" in found
    assert "surprise" in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not YAML"),
        ("[1, 2]", "must be a map"),
        (WEBSITES + 'default_website: "2"', "default_website '2' is not one of websites"),
        (WEBSITES + "contacts: {fields: {DOB: {path: A, attribute: B}}}", "either path or attribute"),
    ],
)
def test_what_is_wrong_is_said(text, said):
    assert said in problems(text)


def test_the_default_has_everything_but_websites():
    assert default_document()["websites"] == {}
