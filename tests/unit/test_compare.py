"""What counts as a difference, and what Dotdigital does by itself."""

import pytest

from estarsync_core.dotdigital.compare import differing_data_fields, differing_fields, value_at


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ({"Price": 1}, {"price": 1.0}),
        ({"price": 0.001}, {"price": 1e-3}),
        ({"brand": None}, {}),
        ({"brand": ""}, {"brand": None}),
        ({"purchase_date": "2026-02-03T01:02:03Z"}, {"purchase_date": "2026-02-03T01:02:03.000+00:00"}),
        ({"purchase_date": "2026-02-03T01:02:03Z"}, {"purchase_date": "2026-02-03T02:02:03+01:00"}),
        ({"purchase_date": "2026-02-03T01:02:03"}, {"purchase_date": "2026-02-03T01:02:03Z"}),
        ({"products": [{"sku": "A"}]}, {"products": [{"SKU": "A"}]}),
        ({}, {"extra": None}),
        ({"flag": True}, {"flag": True}),
    ],
)
def test_forms_that_mean_the_same_agree(expected, actual):
    assert differing_fields(expected, actual) == []


@pytest.mark.parametrize(
    ("expected", "actual", "fields"),
    [
        ({"price": 1}, {"price": 2}, ["price"]),
        ({"price": 1}, {"price": "1"}, ["price"]),
        ({"name": "A"}, {"name": "a"}, ["name"]),
        ({"name": "2026-99-99T00:00:00Z"}, {"name": "x"}, ["name"]),
        ({"name": "2026-02-03T00:00:00Z"}, {"name": "2026-02-04T00:00:00Z"}, ["name"]),
        ({"flag": True}, {"flag": 1}, ["flag"]),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b"]),
        ({"a": {"b": 1}}, {"a": "b"}, ["a"]),
        ({"l": [1, 2]}, {"l": [1]}, ["l"]),
        ({"l": [{"q": 1}, {"q": 2}]}, {"l": [{"q": 1}, {"q": 3}]}, ["l[1].q"]),
        ({}, {"extra": 1}, ["extra"]),
        ({"gone": "x"}, {}, ["gone"]),
    ],
)
def test_real_differences_are_named(expected, actual, fields):
    assert differing_fields(expected, actual) == fields


@pytest.mark.parametrize(
    ("sent", "held", "same"),
    [
        (True, "Yes", True),
        (False, "NO", True),
        (True, "No", False),
        (True, "perhaps", False),
        (True, True, True),
        (1.5, "1.50", True),
        (1, "one", False),
        (None, "", True),
        ("A", "B", False),
        ("2001-02-03T00:00:00Z", "2001-02-03T00:00:00", True),
    ],
)
def test_data_fields_in_dotdigitals_forms(sent, held, same):
    assert (differing_data_fields({"FIELD": sent}, {"field": held, "OTHERS": 1}) == []) is same


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Name", "a"),
        ("name", "a"),
        ("products[1].sku", "y"),
        ("products[2].sku", None),
        ("name[0]", None),
        ("nothing", None),
        ("name.deeper", None),
    ],
)
def test_a_path_leads_to_its_value(path, expected):
    document = {"name": "a", "products": [{"sku": "x"}, {"SKU": "y"}]}
    assert value_at(document, path) == expected
