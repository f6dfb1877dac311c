"""Keys: one canonical form."""

import pytest

from estarsync_core.errors import InvalidRecord
from estarsync_core.keys import canonical_email, record_key


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("Aroha@Shop.Example", "aroha@shop.example"),
        ("  tama+news@shop.example\n", "tama+news@shop.example"),
        ("ma\u0304ori@shop.example", "m\u0101ori@shop.example"),  # decomposed to composed
    ],
)
def test_an_email_has_one_form(written, key):
    assert canonical_email(written) == key
    assert canonical_email(key) == key


@pytest.mark.parametrize("written", [None, "", "   "])
def test_a_missing_email_is_missing(written):
    with pytest.raises(InvalidRecord, match="email: missing"):
        canonical_email(written)


@pytest.mark.parametrize(
    "written",
    [
        "nobody",
        "two@at@signs.example",
        "no-dot@host",
        "a b@shop.example",
        ".dot@shop.example",
        "dot.@shop.example",
        "dot..dot@shop.example",
        "a@shop.example, b@shop.example",
        "zero\u200bwidth@shop.example",
        "x" * 250 + "@shop.example",
    ],
)
def test_what_is_no_email_is_refused_without_being_quoted(written):
    with pytest.raises(InvalidRecord) as error:
        canonical_email(written)
    assert (error.value.field, error.value.code) == ("email", "not_an_email")
    assert written not in str(error.value)


def test_a_record_key_keeps_what_fits_and_tells_apart_what_does_not():
    assert record_key("85123A") == "85123A"
    assert record_key("a-b_c.1") == "a-b_c.1"
    # printf '%s' 'BANK CHARGES' | sha256sum
    assert record_key("BANK CHARGES") == "BANK_CHARGES-d30fb1d7"
    assert record_key("A/B") != record_key("A?B")
