"""A split tree of orders to one order record.

The root speaks for the tree: its id, its status, its shopper, its time and its addresses. Lines, freight and
discounts are gathered from all its orders, so that revenue counts once.
"""

from collections.abc import Callable, Iterable
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache

import msgspec

from estarsync_core.entities import Reason
from estarsync_core.errors import InvalidRecord
from estarsync_core.estar.records import Address, Order, OrderTree
from estarsync_core.keys import canonical_email
from estarsync_core.mapping.fields import (
    EXACT,
    BadValue,
    Notes,
    Times,
    amount,
    country_reader,
    identity,
    money,
    quantity,
    required,
)
from estarsync_core.mapping.raw import decode
from estarsync_core.mapping.result import Document, Mapped
from estarsync_core.mapping.text import clean, clean_title
from estarsync_core.profile import TenantProfile

UNKNOWN_SKU = "unknown"
Reader = Callable[[str | None], str | None]

_ZERO = Decimal(0)
_CENT = Decimal("0.01")
_MAX_AMOUNT = Decimal(10) ** 13  # with two decimals, as many digits as a double keeps
_REMEMBERED = 8192  # a shop's orders hold the same few things again and again
_BILLING = frozenset({"billing"})
_NO_ORDER = frozenset({"", "0"})
_DELIVERY = frozenset({"shipping", "delivery"})

_word = lru_cache(_REMEMBERED)(clean)
"""`clean` for what is one of a few words: a status, a type, a website."""


class OrderMapper:
    """Maps order trees as one profile says."""

    def __init__(self, profile: TenantProfile) -> None:
        self._times = Times(profile.zone, profile.null_dates)
        rules = profile.orders
        self._statuses = (
            rules.statuses | rules.void_statuses
            if rules.voided == "keep"
            else rules.statuses - rules.void_statuses
        )
        self._status_names = rules.status_names
        self._sends_replacements = rules.replacements == "keep"
        self._replacement_values = rules.replacement_values
        self._country = country_reader(profile.countries)
        self._dropped = profile.orders.dropped_line_statuses
        self._currencies = {name: site.currency for name, site in profile.websites.items()}
        self._default = profile.default_website
        self._decoder = msgspec.json.Decoder(OrderTree)

    def map(self, key: str, value: bytes) -> Mapped:
        """The order record of a tree; a tombstone `removed` where its root's status is not one that is sent.

        So is a root that replaces an order which was paid for, unless the profile keeps those; such an order further
        down in the tree counts for nothing.
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
        status = self._status(root)
        if status not in self._statuses or self._left_out(root):
            return Mapped(None, Reason.REMOVED)
        if len(tree.orders) > 1:
            tree = OrderTree([order for order in tree.orders if not self._left_out(order)])
        products, subtotal, whole = self._lines(tree, notes)
        freight, freight_cents = _sum("delivery_total", [order.FreightTotal for order in tree.orders])
        discount, discount_cents = _sum("discount_amount", [order.DiscountTotal for order in tree.orders])
        if not products[0]["qty"]:  # then none has one
            discount, discount_cents = _ZERO, 0.0
        total = None
        if whole and len(tree.orders) == 1:
            total = notes.optional("order_total", amount, root.Total)
        if total is None:
            total = EXACT.subtract(EXACT.add(subtotal, freight), discount)
        addresses = root.Addresses or ()
        document = {
            "id": key,
            "email": canonical_email(root.Email),
            "order_total": _cents("order_total", total),
            "order_subtotal": _cents("order_subtotal", subtotal),
            "discount_amount": discount_cents,
            "delivery_total": freight_cents,
            "currency": self._currency(root),
            "purchase_date": required("purchase_date", self._times.instant, root.OrderDate),
            "order_status": status,
            "delivery_method": notes.text("delivery_method", root.DeliveryMethod),
            "billing_address": _billing(_address(_BILLING, addresses), notes, self._country),
            "delivery_address": _delivery(_address(_DELIVERY, addresses), notes, self._country),
            "products": products,
        }
        return Mapped(document, None, tuple(notes))

    def _status(self, order: Order) -> str:
        text = order.Status
        if self._status_names and clean(text) is None:
            number = clean(order.OrderStatus)
            text = self._status_names.get(number, number) if number else None
        return required("order_status", identity, text)

    def _left_out(self, order: Order) -> bool:
        """Whether it is a replacement, and those are not sent."""
        if self._sends_replacements or order.ReplacementOf is None:
            return False
        original = order.ReplacementOf.strip()
        if self._replacement_values:
            return original in self._replacement_values
        return original not in _NO_ORDER

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
                price = _price(line.UnitPrice)
                field = "unit_discount"
                discount = money(line.UnitDiscount)
            except BadValue as bad:
                raise InvalidRecord(f"lines[{index}].{field}", bad.code) from bad
            if qty is None or price is None:
                raise InvalidRecord(
                    f"lines[{index}].{'quantity' if qty is None else 'unit_price'}", "missing"
                )
            name, sku, product_id, problems = _item(line.Title, line.Barcode, line.ProductID)
            notes += problems
            exact, double = price
            product = {"name": name, "sku": sku, "price": double, "qty": qty, "product_id": product_id}
            if _word(line.StatusCode) in self._dropped:
                product["qty"] = 0
                whole = False
                left.append(product)
            elif not qty:
                left.append(product)
            else:
                kept.append(product)
                subtotal = EXACT.fma(qty, EXACT.subtract(exact, discount) if discount else exact, subtotal)
        if not kept and not left:
            raise InvalidRecord("lines", "missing")
        return kept or left, subtotal, whole

    def _currency(self, order: Order) -> str:
        currency = self._currencies.get(_word(order.Website) or self._default)
        if currency is None:
            raise InvalidRecord("currency", "unknown_website")
        return currency


@lru_cache(_REMEMBERED)
def _price(raw: str | None) -> tuple[Decimal, float] | None:
    """A unit price, exact and as it is sent."""
    price = money(raw)
    return None if price is None else (price, float(price))


@lru_cache(_REMEMBERED)
def _item(
    title: str | None, barcode: str | None, product_id: str | None
) -> tuple[str | None, str, str | None, tuple[tuple[str, str], ...]]:
    """What a line sells: name, sku, the product's id, and what is to be noted."""
    notes = Notes()
    if not (barcode or "").strip():
        notes.append(("lines[].sku", "missing"))
    sku = notes.optional("lines[].sku", identity, barcode) or UNKNOWN_SKU
    name = notes.fit("lines[].name", clean_title(title) or sku)
    return name, sku, notes.optional("lines[].product_id", identity, product_id), tuple(notes)


def _address(kinds: frozenset[str], addresses: Iterable[Address]) -> Address | None:
    """The first address of these kinds that says anything."""
    for address in addresses:
        if (_word(address.Type) or "").lower() in kinds and (
            clean(address.Street)
            or clean(address.Suburb)
            or clean(address.City)
            or clean(address.State)
            or clean(address.Country)
            or clean(address.Postcode)
        ):
            return address
    return None


def _billing(address: Address | None, notes: Notes, country: Reader) -> Document | None:
    if address is None:
        return None
    return {
        "billing_address_1": notes.text("billing_address_1", address.Street),
        "billing_address_2": notes.text("billing_address_2", address.Suburb),
        "billing_city": notes.text("billing_city", address.City),
        "billing_region": notes.text("billing_region", address.State),
        "billing_country": notes.fit("billing_country", country(address.Country)),
        "billing_postcode": notes.text("billing_postcode", address.Postcode),
    }


def _delivery(address: Address | None, notes: Notes, country: Reader) -> Document | None:
    if address is None:
        return None
    return {
        "delivery_address_1": notes.text("delivery_address_1", address.Street),
        "delivery_address_2": notes.text("delivery_address_2", address.Suburb),
        "delivery_city": notes.text("delivery_city", address.City),
        "delivery_region": notes.text("delivery_region", address.State),
        "delivery_country": notes.fit("delivery_country", country(address.Country)),
        "delivery_postcode": notes.text("delivery_postcode", address.Postcode),
    }


def _sum(field: str, amounts: list[str | None]) -> tuple[Decimal, float]:
    """What the amounts come to, exact and as it is sent."""
    if len(amounts) == 1:
        return _single(field, amounts[0])
    total = _ZERO
    try:
        for text in amounts:
            value = money(text)
            if value:
                total = EXACT.add(total, value)
    except BadValue as bad:
        raise InvalidRecord(field, bad.code) from bad
    return total, _cents(field, total)


@lru_cache(_REMEMBERED)
def _single(field: str, text: str | None) -> tuple[Decimal, float]:
    try:
        value = amount(text) or _ZERO
    except BadValue as bad:
        raise InvalidRecord(field, bad.code) from bad
    return value, _cents(field, value)


def _cents(field: str, value: Decimal) -> float:
    if not value.same_quantum(_CENT):
        value = value.quantize(_CENT, ROUND_HALF_EVEN, EXACT)
    if abs(value) >= _MAX_AMOUNT:
        raise InvalidRecord(field, "out_of_range")
    return float(value) + 0.0  # an amount of -0.00 is 0.00
