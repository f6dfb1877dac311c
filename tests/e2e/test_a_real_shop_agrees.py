"""Claim: a real shop's invoices end with the counts and the revenue that their rules give."""

import pytest

pytestmark = pytest.mark.e2e

CONTACTS, PRODUCTS, ORDERS, REVENUE = 4230, 3561, 10031, "4826466.49"


def test_a_real_shop_ends_in_agreement(demo, on_kafka, shop_data):
    run = demo("--data", str(shop_data), **on_kafka)
    assert run.wait(280) == 0, run.output
    report = run.report()
    assert {name: counts["agree"] for name, counts in report["entities"].items()} == {
        "contacts": CONTACTS,
        "products": PRODUCTS,
        "orders": ORDERS,
    }
    assert report["revenue"] == {"shop": REVENUE, "dotdigital": REVENUE}
    assert all(peak <= 200 for peak in report["peak_rss_mib"].values()), report["peak_rss_mib"]
