"""Raw values: what XML can't tell apart counts as absent, and what is wrong is named without being quoted."""

import msgspec
import pytest

from estarsync_core.errors import InvalidRecord
from estarsync_core.estar.records import CustomerGroup
from estarsync_core.mapping.raw import decode

DECODER = msgspec.json.Decoder(CustomerGroup)


def group(**fields: object) -> bytes:
    return msgspec.json.encode({"customers": [{"ID": "1", **fields}]})


def test_an_empty_element_where_a_structure_belongs_is_absent():
    [customer] = decode(
        DECODER, group(Account="", Attributes="", Addresses=["", None, {"City": "Ōtautahi"}])
    ).customers
    assert (customer.Account, customer.Attributes) == (None, None)
    assert customer.Addresses is not None
    assert [address.City for address in customer.Addresses] == ["Ōtautahi"]


@pytest.mark.parametrize(
    ("value", "field", "code"),
    [
        (b"{", "value", "not_json"),
        (b'{"customers": [{"ID": "\xff"}]}', "value", "not_json"),
        (b'{"surprise": ' + b"[" * 100_000, "value", "not_json"),
        (b"[]", "value", "wrong_type"),
        (b'""', "value", "wrong_type"),
        (b'{"customers": ""}', "value", "missing"),
        (b'{"customers": ""} and more', "customers", "wrong_type"),
        (group(Account={"AccountType": 1}), "customers[0].Account[...]", "wrong_type"),
        (group(Account="secret"), "customers[0].Account", "wrong_type"),
        (group(Account="", Addresses="secret"), "customers[0].Addresses", "wrong_type"),
        (b'{"customers": [{}]}', "customers[0]", "missing"),
    ],
)
def test_what_is_wrong_is_named_without_its_value(value, field, code):
    with pytest.raises(InvalidRecord) as error:
        decode(DECODER, value)
    assert (error.value.field, error.value.code) == (field, code)
    assert "secret" not in str(error.value)
