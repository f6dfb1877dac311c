"""The rules that turn invoice lines into a shop, on small files and on the real one."""

import gzip
import os
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from estarsync_core.errors import ConfigurationError
from sandbox.estar import render
from sandbox.estar.contract import Contract
from sandbox.estar.retail import load_shop
from sandbox.estar.state import Record, Shop
from sandbox.estar.truth import truth

LONDON = ZoneInfo("Europe/London")
HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
SHARED = Path(os.environ.get("SHARED_DIR", Path(__file__).parents[2].parent / "shared"))
REAL = SHARED / "data" / "online-retail-2010-12_2011-06.csv.gz"
real_file = pytest.mark.skipif(not REAL.exists(), reason=f"the real shop's file is not there: {REAL}")


def load(tmp_path: Path, *lines: str, returns: bool = False) -> Shop:
    path = tmp_path / "lines.csv"
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return load_shop(path, LONDON, returns=returns)


def product(shop: Shop, code: str) -> Record:
    return next(p for p in shop.products.records.values() if p.rows("Items")[0]["Barcode"] == code)


def test_a_customer_has_the_country_of_the_latest_invoice_whatever_kind_it_is(tmp_path: Path) -> None:
    shop = load(
        tmp_path,
        "10,A,Mug,1,2011-03-01 10:00:00,2.50,12345.0,France",
        "C9,A,Mug,-1,2011-03-02 10:00:00,2.50,12345.0,Spain",
        "8,A,Mug,1,2011-02-01 10:00:00,2.50,12345.0,Italy",
        "7,A,Mug,1,2011-02-01 10:00:00,2.50,12346,Italy",
    )
    assert sorted(shop.customers.records) == [12345, 12346]
    customer = shop.customers.records[12345].body
    assert customer["Email"] == "c12345@example.com"
    assert (customer["FirstName"], customer["LastName"]) == ("Customer", "12345")
    assert shop.customers.records[12345].rows("Addresses") == [{"Type": "Billing", "Country": "Spain"}]
    assert (customer["DateCreated"], customer["DateModified"]) == (
        "2011-02-01T10:00:00",
        "2011-03-02T10:00:00",
    )
    assert customer["LpmStatus"] == "0"
    assert shop.customers.records[12346].body["LpmStatus"] == "1"


def test_a_product_has_the_most_recent_title_and_price_and_ties_go_to_the_later_line(tmp_path: Path) -> None:
    shop = load(
        tmp_path,
        "10, b2 , NEW  NAME ,1,2011-03-01 10:00:00,2.50,1.0,UK",
        "10,B2,later line,1,2011-03-01 10:00:00,3.10,1.0,UK",
        "9,b2,old,1,2011-02-01 10:00:00,9.99,1.0,UK",
        "11,B2,,1,2011-04-01 10:00:00,0.0,1.0,UK",
        "A12,BANK CHARGES,  ,-1,2011-04-01 10:00:00,-5.00,,UK",
    )
    assert [p.rows("Items")[0]["Barcode"] for p in shop.products.get([1, 2])] == ["B2", "BANK CHARGES"]
    mug, charges = product(shop, "B2").body, product(shop, "BANK CHARGES").body
    assert (mug["ID"], mug["Title"], mug["Price"]) == ("1", "later line", "3.10")
    assert (charges["ID"], charges["Title"], charges["Price"]) == ("2", "BANK CHARGES", "0")
    assert product(shop, "BANK CHARGES").rows("Images")[0]["Value"] == "/images/BANK%20CHARGES.jpg"
    assert mug["Manufacturer"] == ""


def test_orders_are_invoices_in_digits_that_sell_something(tmp_path: Path) -> None:
    shop = load(
        tmp_path,
        "500,A,Mug,2,2011-03-01 10:01:00,2.505,,UK",
        "500,A, ,1,2011-03-01 10:00:00,-1.0,17.0,UK",
        "500,A,Broken,-4,2011-03-01 10:02:00,0.0,17.0,UK",
        "501,A,Lost,-4,2011-03-01 10:00:00,0.0,,UK",
        "A502,A,Debt,1,2011-03-01 10:00:00,100.0,,UK",
        "C503,A,Mug,-1,2011-03-02 10:00:00,2.505,17.0,UK",
        "504,A,Mug,1,2011-03-01 10:00:00,0.001,,UK",
    )
    assert sorted(shop.orders.records) == [500, 504]
    order, guest = shop.orders.records[500], shop.orders.records[504]
    assert order.body["Email"] == "c17@example.com"
    assert order.body["Customer"] == "17"
    assert order.body["OrderDate"] == order.body["DateModified"] == "2011-03-01T10:00:00"
    assert [(line.barcode, line.title, line.quantity, line.price) for line in order.lines] == [
        ("A", "Mug", 2, "2.505"),
        ("A", "Mug", 1, "0"),
    ]
    assert order.body["Total"] == "5.01"
    assert (guest.body["Customer"], guest.body["Email"]) == ("0", "guest-504@example.com")
    assert guest.lines[0].price == "0.001"
    assert guest.body["Total"] == "0.00"


def test_totals_round_half_to_even(tmp_path: Path) -> None:
    shop = load(
        tmp_path,
        "1,A,Mug,1,2011-03-01 10:00:00,0.125,,UK",
        "2,A,Mug,1,2011-03-01 10:00:00,0.135,,UK",
    )
    assert [order.body["Total"] for order in shop.orders.records.values()] == ["0.12", "0.14"]


def test_returns_shrink_the_latest_earlier_order_of_the_product(tmp_path: Path) -> None:
    lines = (
        "1,A,Mug,5,2011-03-01 10:00:00,1.00,7.0,UK",
        "2,A,Mug,3,2011-03-02 10:00:00,1.00,7.0,UK",
        "2,A,Mug,4,2011-03-02 10:00:00,1.00,7.0,UK",
        "2,B,Cup,1,2011-03-02 10:00:00,2.00,7.0,UK",
        "C3,A,Mug,-1,2011-03-03 10:00:00,1.00,7.0,UK",
        "C4,a,Mug,-9,2011-03-04 10:00:00,1.00,7.0,UK",
        "C5,A,Mug,-9,2011-03-01 10:00:00,1.00,7.0,UK",  # nothing is earlier
        "C6,A,Mug,-1,2011-03-05 10:00:00,1.00,8.0,UK",  # another customer
        "C7,A,Mug,-1,2011-03-05 10:00:00,1.00,,UK",  # nobody
        "3,A,Mug,1,2011-03-06 10:00:00,1.00,7.0,UK",
    )
    untouched = load(tmp_path, *lines)
    assert [order.body["Total"] for order in untouched.orders.records.values()] == ["5.00", "9.00", "1.00"]
    assert untouched.events == []

    shop = load(tmp_path, *lines, returns=True)
    first, second, third = shop.orders.records.values()
    assert [(line.quantity, line.status) for line in second.lines] == [
        (0, "Deleted"),
        (4, "Ordered"),
        (1, "Ordered"),
    ]
    assert second.body["Total"] == "6.00"
    assert second.body["DateModified"] == "2011-03-04T10:00:00"
    assert [first.body["Total"], third.body["Total"]] == ["5.00", "1.00"]
    assert [(e.sequence, e.type) for e in shop.events] == [
        (1, "order.item.quantity.changed"),
        (2, "order.item.deleted"),
    ]


GOOD = "10,A,Mug,1,2011-03-01 10:00:00,2.50,1.0,UK"


@pytest.mark.parametrize(
    ("lines", "where", "what"),
    [
        ([GOOD, "11,A,Mug,one,2011-03-01 10:00:00,2.50,1.0,UK"], "line 3, column Quantity", "'one'"),
        (["11,A,Mug,1,01/03/2011 10:00,2.50,1.0,UK"], "line 2, column InvoiceDate", "YYYY-MM-DD hh:mm:ss"),
        (["11,A,Mug,1,2011-03-01 10:00:00,£2,1.0,UK"], "line 2, column UnitPrice", "'£2'"),
        (["11,A,Mug,1,2011-03-01 10:00:00,NaN,1.0,UK"], "line 2, column UnitPrice", "NaN"),
        (["11,A,Mug,1,2011-03-01 10:00:00,2.5,Bob,UK"], "line 2, column CustomerID", "'Bob'"),
        (["11, ,Mug,1,2011-03-01 10:00:00,2.5,1,UK"], "line 2, column StockCode", "empty"),
        ([GOOD, ",A,Mug,1,2011-03-01 10:00:00,2.5,1,UK"], "line 3, column InvoiceNo", "empty"),
        ([GOOD, GOOD, "11,A,Mug"], "line 4", "3 columns"),
        ([GOOD, '11,"A'], "line 3", "mend the CSV"),
    ],
)
def test_an_unreadable_line_is_named_with_its_column(
    tmp_path: Path, lines: list[str], where: str, what: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, *lines)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{tmp_path / 'lines.csv'} {where}: ")
    assert what in problem
    assert "mend" in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("none.csv", None, "give the path of a .csv or .csv.gz file"),
        ("empty.csv", b"", "is empty"),
        ("other.csv", b"a,b,c\n1,2,3\n", "line 1: no column InvoiceNo, StockCode"),
        ("short.csv", HEADER.removesuffix(",Country").encode(), "line 1: no column Country"),
        ("plain.csv.gz", HEADER.encode(), "is not a gzip file"),
        ("cut.csv.gz", gzip.compress(HEADER.encode() * 50)[:-12], "is damaged"),
        ("bad.csv.gz", b"\x1f\x8bnot really", "is damaged"),
        ("latin.csv", (HEADER + "\n10,A,Caf\xe9").encode("latin-1"), "not UTF-8"),
    ],
)
def test_an_unreadable_file_is_named_with_what_to_do(
    tmp_path: Path, name: str, content: bytes | None, what: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load_shop(path, LONDON)
    (problem,) = caught.value.problems
    assert problem.startswith(str(path))
    assert what in problem


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Is a directory"):
        load_shop(tmp_path, LONDON)


def test_columns_may_stand_in_another_order_and_the_file_may_be_packed(tmp_path: Path) -> None:
    columns = HEADER.split(",")
    values = GOOD.split(",")
    lines = [",".join(reversed(columns)), ",".join(reversed(values)), ""]
    path = tmp_path / "packed.csv.gz"
    path.write_bytes(gzip.compress(("\ufeff" + "\r\n".join(lines)).encode()))
    shop = load_shop(path, LONDON)
    assert shop.orders.records[10].body["Total"] == "2.50"


@real_file
def test_the_real_file_gives_the_documented_shop() -> None:
    shop = load_shop(REAL, LONDON)
    found = truth(shop, Contract())
    assert len(shop.customers.records) == 3002
    assert len(found.contacts) == 4230
    assert sum(email.startswith("guest-") for email in found.contacts) == 1228
    assert len(found.products) == len(shop.products.records) == 3561
    assert len(found.orders) == len(shop.orders.records) == 10_031
    assert found.revenue == Decimal("4826466.49")
    assert (found.unusable_contacts, found.unusable_products, found.unusable_orders) == (0, 0, 0)
    assert found.filtered_orders == 0
    assert sum(len(render.record("Order", order)) for order in shop.orders.records.values()) > 0
