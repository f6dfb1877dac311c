"""A split tree of orders to one order record.

The root speaks for the tree: its id, its status, its shopper, its time and its addresses. Lines, freight and
discounts are gathered from all its orders, so that revenue counts once.
"""

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal
from operator import attrgetter

import msgspec

from estarsync_core.entities import Reason
from estarsync_core.errors import InvalidRecord
from estarsync_core.estar.records import Address, Order, OrderLine, OrderTree
from estarsync_core.keys import canonical_email
from estarsync_core.mapping.fields import EXACT, BadValue, Notes, Times, identity, money, quantity, required
from estarsync_core.mapping.raw import decode
from estarsync_core.mapping.result import Document, Mapped
from estarsync_core.mapping.text import clean, clean_title
from estarsync_core.profile import TenantProfile

UNKNOWN_SKU = "unknown"

_ZERO = Decimal(0)
_CENT = Decimal("0.01")
_MAX_AMOUNT = Decimal(10) ** 13  # with two decimals, as many digits as a double keeps
_PARTS = {
    "address_1": "Street",
    "address_2": "Suburb",
    "city": "City",
    "region": "State",
    "country": "Country",
    "postcode": "Postcode",
}


class _Place:
    """One of an order's two addresses: the kinds of address that it is, and where its parts come from."""

    def __init__(self, prefix: str, kinds: set[str]) -> None:
        self.kinds = frozenset(kinds)
        self.parts = [(f"{prefix}_{part}", attrgetter(element)) for part, element in _PARTS.items()]


_BILLING = _Place("billing", {"billing"})
_DELIVERY = _Place("delivery", {"shipping", "delivery"})


class OrderMapper:
    """Maps order trees as one profile says."""

    def __init__(self, profile: TenantProfile) -> None:
        self._times = Times(profile.zone, profile.null_dates)
        self._statuses = profile.orders.statuses
        self._dropped = profile.orders.dropped_line_statuses
        self._currencies = {name: site.currency for name, site in profile.websites.items()}
        self._default = profile.default_website
        self._decoder = msgspec.json.Decoder(OrderTree)

    def map(self, key: str, value: bytes) -> Mapped:
        """The order record of a tree; a tombstone `removed` where the root's status is not one that is sent.

        The total is the shop's own for an order that was neither split nor lost a line, else lines plus freight
        less discounts. Where no line is left, the lines stay with quantity 0 and nothing is left to discount.

        Raises:
            InvalidRecord: not a tree, its root's id is not the key, no lines, or anything is bad that an order
                can't do without: status, e-mail, time, currency, and every amount that makes the total.
        """
        tree = decode(self._decoder, value)
        if not tree.orders:
            raise InvalidRecord("orders", "missing")
        root = tree.orders[0]
        if required("id", identity, root.ID) != key:
            raise InvalidRecord("id", "key_mismatch")
        notes = Notes()
        status = required("order_status", identity, root.Status)
        if status not in self._statuses:
            return Mapped(None, Reason.REMOVED)
        products, subtotal, whole = self._lines(tree, notes)
        freight = _sum("delivery_total", (order.FreightTotal for order in tree.orders))
        discount = _sum("discount_amount", (order.DiscountTotal for order in tree.orders))
        if not any(product["qty"] for product in products):
            discount = _ZERO
        total = None
        if whole and len(tree.orders) == 1:
            total = notes.optional("order_total", money, root.Total)
        if total is None:
            total = EXACT.subtract(EXACT.add(subtotal, freight), discount)
        addresses = root.Addresses or ()
        document = {
            "id": key,
            "email": canonical_email(root.Email),
            "order_total": _cents("order_total", total),
            "order_subtotal": _cents("order_subtotal", subtotal),
            "discount_amount": _cents("discount_amount", discount),
            "delivery_total": _cents("delivery_total", freight),
            "currency": self._currency(root),
            "purchase_date": required("purchase_date", self._times.instant, root.OrderDate),
            "order_status": status,
            "delivery_method": notes.text("delivery_method", root.DeliveryMethod),
            "billing_address": _address(_BILLING, addresses, notes),
            "delivery_address": _address(_DELIVERY, addresses, notes),
            "products": products,
        }
        return Mapped(document, None, tuple(notes))

    def _lines(self, tree: OrderTree, notes: Notes) -> tuple[list[Document], Decimal, bool]:
        """The products, what they come to, and whether every line is among them.

        A line without a barcode keeps its place and its amount, since the shopper paid for it, under a sku that
        no catalogue holds.
        """
        kept: list[Document] = []
        left: list[Document] = []
        subtotal, whole = _ZERO, True
        for index, line in enumerate(line for order in tree.orders for line in order.Items or ()):
            field = "quantity"
            try:
                qty = quantity(line.Quantity)
                field = "unit_price"
                price = money(line.UnitPrice)
                field = "unit_discount"
                discount = money(line.UnitDiscount) or _ZERO
            except BadValue as bad:
                raise InvalidRecord(f"lines[{index}].{field}", bad.code) from bad
            if qty is None or price is None:
                raise InvalidRecord(
                    f"lines[{index}].{'quantity' if qty is None else 'unit_price'}", "missing"
                )
            dropped = clean(line.StatusCode) in self._dropped
            product = _product(line, price, 0 if dropped else qty, notes)
            if dropped or not qty:
                whole = whole and not dropped
                left.append(product)
            else:
                kept.append(product)
                subtotal = EXACT.fma(qty, EXACT.subtract(price, discount), subtotal)
        if not kept and not left:
            raise InvalidRecord("lines", "missing")
        return kept or left, subtotal, whole

    def _currency(self, order: Order) -> str:
        currency = self._currencies.get(clean(order.Website) or self._default)
        if currency is None:
            raise InvalidRecord("currency", "unknown_website")
        return currency


def _product(line: OrderLine, price: Decimal, qty: int, notes: Notes) -> Document:
    if not (line.Barcode or "").strip():
        notes.append(("lines[].sku", "missing"))
    sku = notes.optional("lines[].sku", identity, line.Barcode) or UNKNOWN_SKU
    return {
        "name": notes.fit("lines[].name", clean_title(line.Title) or sku),
        "sku": sku,
        "price": float(price),
        "qty": qty,
        "product_id": notes.optional("lines[].product_id", identity, line.ProductID),
    }


def _address(place: _Place, addresses: Iterable[Address], notes: Notes) -> Document | None:
    """The first address of the place's kinds that says anything."""
    for address in addresses:
        if (clean(address.Type) or "").lower() in place.kinds:
            found = {name: notes.text(name, read(address)) for name, read in place.parts}
            if any(found.values()):
                return found
    return None


def _sum(field: str, amounts: Iterable[str | None]) -> Decimal:
    total = _ZERO
    try:
        for amount in amounts:
            total = EXACT.add(total, money(amount) or _ZERO)
    except BadValue as bad:
        raise InvalidRecord(field, bad.code) from bad
    return total


def _cents(field: str, amount: Decimal) -> float:
    rounded = amount.quantize(_CENT, ROUND_HALF_EVEN, EXACT)
    if abs(rounded) >= _MAX_AMOUNT:
        raise InvalidRecord(field, "out_of_range")
    return float(rounded) + 0.0  # an amount of -0.00 is 0.00
