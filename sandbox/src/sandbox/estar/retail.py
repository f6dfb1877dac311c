"""A shop from invoice lines in the format of the Online Retail data set (UCI, DOI 10.24432/C5BW33).

A customer, a product and an order come from lines scattered over the file; cancellations are invoices of their
own, which change nothing unless they are played.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import quote
from zoneinfo import ZoneInfo

from sandbox.estar.contract import Contract
from sandbox.estar.orders import new_order, return_line, settle
from sandbox.estar.retail_file import InvoiceLine, read_lines
from sandbox.estar.state import Line, Order, Record, Shop, repeat, repeat_bodies, stamp

_NOT_SUBSCRIBED_EVERY = 3
_CANCELLATION = "C"
_NEVER = datetime(1, 1, 1)  # noqa: DTZ001 - naive, as every time in a file


@dataclass(slots=True)
class _Product:
    title: str = ""
    titled: datetime = _NEVER
    price: str = "0"
    priced: datetime = _NEVER


@dataclass(slots=True)
class _Customer:
    first: datetime
    last: datetime
    country: str


@dataclass(slots=True)
class _Invoice:
    number: str
    when: datetime
    customer: int | None = None
    lines: list[InvoiceLine] = field(default_factory=list)


def load_shop(path: Path, zone: ZoneInfo, *, returns: bool = False) -> Shop:
    """The shop that a file of invoice lines describes.

    Args:
        path: a .csv or .csv.gz file; times in it are the shop's own.
        zone: the shop's time zone.
        returns: play the cancellations, each against the customer's latest earlier order of the product.

    Raises:
        ConfigurationError: the file can't be read; says which line and column, and what to do.
    """
    products, customers, invoices = _collect(read_lines(path))
    shop = Shop(zone)
    for customer_id in sorted(customers):
        shop.customers.add(_customer(customer_id, customers[customer_id]))
    numbers = {code: number for number, code in enumerate(sorted(products), start=1)}
    for code, number in numbers.items():
        shop.products.add(_product(number, code, products[code]))
    dropped = Contract().dropped_line_statuses
    for invoice in invoices.values():
        if invoice.number.isdecimal() and any(line.quantity > 0 for line in invoice.lines):
            order = _order(shop, invoice, numbers, products)
            settle(order, dropped)
            shop.add_order(order)
    if returns:
        _play_returns(shop, [i for i in invoices.values() if i.number.startswith(_CANCELLATION)], dropped)
    return shop


def _collect(
    lines: Iterator[InvoiceLine],
) -> tuple[dict[str, _Product], dict[int, _Customer], dict[str, _Invoice]]:
    products: dict[str, _Product] = {}
    customers: dict[int, _Customer] = {}
    invoices: dict[str, _Invoice] = {}
    for line in lines:
        when = line.when
        product = products.get(line.code)
        if product is None:
            product = products[line.code] = _Product()
        if when >= product.titled and line.description.strip():
            product.title, product.titled = line.description.strip(), when
        if when >= product.priced and line.priced:
            product.price, product.priced = line.price, when
        invoice = invoices.get(line.invoice)
        if invoice is None:
            invoice = invoices[line.invoice] = _Invoice(line.invoice, when)
        invoice.when = min(invoice.when, when)
        invoice.lines.append(line)
        if line.customer is not None:
            if invoice.customer is None:
                invoice.customer = line.customer
            _see_customer(customers, line.customer, line)
    return products, customers, invoices


def _see_customer(customers: dict[int, _Customer], customer_id: int, line: InvoiceLine) -> None:
    customer = customers.get(customer_id)
    if customer is None:
        customers[customer_id] = _Customer(line.when, line.when, line.country)
        return
    customer.first = min(customer.first, line.when)
    if line.when >= customer.last:
        customer.last, customer.country = line.when, line.country


def _email(customer_id: int) -> str:
    return f"c{customer_id}@example.com"


def _customer(customer_id: int, customer: _Customer) -> Record:
    return Record(
        customer_id,
        customer.first,
        customer.last,
        {
            "ID": str(customer_id),
            "Email": _email(customer_id),
            "FirstName": "Customer",
            "LastName": str(customer_id),
            "LpmStatus": str(int(customer_id % _NOT_SUBSCRIBED_EVERY != 0)),
            "Addresses": repeat_bodies("CustomerAddress", [{"Type": "Billing", "Country": customer.country}]),
            "Websites": repeat("int", ["1"]),
            "DateCreated": stamp(customer.first),
            "DateModified": stamp(customer.last),
        },
    )


def _product(number: int, code: str, product: _Product) -> Record:
    changed = max(product.titled, product.priced)
    return Record(
        number,
        changed,
        changed,
        {
            "ID": str(number),
            "Title": product.title or code,
            "Status": "1",
            "Price": product.price,
            "Manufacturer": "",
            "Items": repeat_bodies(
                "ProductItem", [{"ID": str(number), "Barcode": code, "Price": product.price}]
            ),
            "Images": repeat_bodies(
                "NameValue", [{"Name": "Main", "Value": f"/images/{quote(code, safe='')}.jpg"}]
            ),
            "Websites": repeat("int", ["1"]),
        },
    )


def _order(shop: Shop, invoice: _Invoice, numbers: dict[str, int], products: dict[str, _Product]) -> Order:
    order_id = int(invoice.number)
    guest = f"guest-{invoice.number}@example.com"
    lines = [
        Line(
            shop.line_id(),
            order_id,
            numbers[line.code],
            line.code,
            line.description if line.description.strip() else products[line.code].title or line.code,
            line.quantity,
            "0" if line.price.startswith("-") else line.price,
        )
        for line in invoice.lines
        if line.quantity > 0
    ]
    email = guest if invoice.customer is None else _email(invoice.customer)
    return new_order(order_id, invoice.customer or 0, email, "Completed", invoice.when, lines)


def _play_returns(shop: Shop, cancellations: list[_Invoice], dropped: frozenset[str]) -> None:
    holding: dict[tuple[str | None, str], list[Order]] = {}
    for order in sorted(shop.orders.records.values(), key=lambda o: (o.created, o.id)):
        for code in {line.barcode for line in order.lines}:
            holding.setdefault((order.leaf("Customer"), code), []).append(order)
    for invoice in sorted(cancellations, key=lambda i: i.when):
        if invoice.customer is None:
            continue
        for back in invoice.lines:
            orders = holding.get((str(invoice.customer), back.code), [])
            latest = next((o for o in reversed(orders) if o.created < invoice.when), None)
            if latest is not None and back.quantity < 0:
                line = next(line for line in latest.lines if line.barcode == back.code)
                return_line(shop, latest, line, -back.quantity, invoice.when)
                settle(latest, dropped)
