"""A real shop's invoices through the mapping: nothing is lost, nothing is changed."""

import csv
import gzip
import json
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from estarsync_core.mapping.mapper import Mapper
from estarsync_core.profile import load_profile

SHARED = Path(os.environ.get("SHARED_DIR") or Path(__file__).parents[2].parent / "shared")
FILE = SHARED / "data" / "online-retail-2010-12_2011-06.csv.gz"
PROFILE = """
timezone: Europe/London
websites:
  "1": {currency: GBP, product_url: "https://shop.example.com/product/{id}", image_base: "https://shop.example.com"}
"""
Row = dict[str, str]

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="the real shop's file is absent (set SHARED_DIR)")


def orders() -> Iterator[tuple[str, list[Row]]]:
    """Invoices that are orders, with their lines of a positive quantity."""
    lines: dict[str, list[Row]] = {}
    with gzip.open(FILE, "rt", encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text):
            if row["InvoiceNo"].isdigit() and int(row["Quantity"]) > 0:
                lines.setdefault(row["InvoiceNo"], []).append(row)
    yield from lines.items()


def line(row: Row) -> dict[str, str]:
    return {
        "Barcode": row["StockCode"].strip().upper(),
        "Title": row["Description"],
        "Quantity": row["Quantity"],
        "UnitPrice": row["UnitPrice"] if float(row["UnitPrice"]) > 0 else "0",
        "StatusCode": "Ordered",
    }


def test_every_order_is_mapped_to_the_penny() -> None:
    mapper = Mapper(load_profile(PROFILE, "test"))
    revenue, count = Decimal(0), 0
    for number, rows in orders():
        raw = {
            "ID": number,
            "Email": f"guest-{number}@example.com",
            "OrderDate": min(row["InvoiceDate"] for row in rows).replace(" ", "T"),
            "Status": "Completed",
            "Website": "1",
            "Items": [line(row) for row in rows],
        }
        document = mapper.order(number, json.dumps({"orders": [raw]}).encode()).document
        assert document is not None
        revenue += Decimal(str(document["order_total"]))
        count += 1
        for row, product in zip(rows, document["products"], strict=True):
            code = row["StockCode"].strip().upper()
            assert (product["sku"], product["name"]) == (code, row["Description"].strip() or code)
            assert Decimal(repr(product["price"])) == max(Decimal(row["UnitPrice"]), Decimal(0))
            assert product["qty"] == int(row["Quantity"])
    assert (count, revenue) == (10_031, Decimal("4826466.49"))
