"""A split tree of orders to one order record.

The root speaks for the tree: its id, its status, its shopper, its time and its addresses. Lines, freight and
discounts are gathered from all its orders, so that revenue counts once.
"""

from collections.abc import Callable, Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal

import msgspec

from estarsync_core.entities import Reason
from estarsync_core.errors import InvalidRecord
from estarsync_core.estar.grouping import PLACEHOLDER
from estarsync_core.estar.records import Address, Order, OrderLine, OrderTree
from estarsync_core.keys import canonical_email
from estarsync_core.mapping.fields import (
    EXACT,
    BadValue,
    Memory,
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
from estarsync_core.mapping.result import Document, Mapped, Shared
from estarsync_core.mapping.text import LIMIT, clean, clean_title, is_plain
from estarsync_core.profile import TenantProfile

UNKNOWN_SKU = "unknown"
Reader = Callable[[str | None], str | None]

_ZERO = Decimal(0)
_CENT = Decimal("0.01")
_MAX_AMOUNT = Decimal(10) ** 13  # with two decimals, as many digits as a double keeps
_REMEMBERED = 8192  # a shop's orders hold the same few things again and again
_QUANTITIES = 8  # of one item, that are remembered
_BILLING = frozenset({"billing"})
_NO_ORDER = frozenset({"", "0"})
_DELIVERY = frozenset({"shipping", "delivery"})
_PARTS = ("address_1", "address_2", "city", "region", "country", "postcode")
_COUNTRY = _PARTS.index("country")
_BILLING_FIELDS = tuple(f"billing_{part}" for part in _PARTS)
_DELIVERY_FIELDS = tuple(f"delivery_{part}" for part in _PARTS)
Tidy = Callable[[str], str | None]

_word = Memory(clean).__getitem__
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
        self._placeholders = profile.contacts.placeholder_emails
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
        tidy = str.strip if is_plain(value) else clean
        document = {
            "id": key,
            "email": self._email(root),
            "order_total": _cents("order_total", total),
            "order_subtotal": _cents("order_subtotal", subtotal),
            "discount_amount": discount_cents,
            "delivery_total": freight_cents,
            "currency": self._currency(root),
            "purchase_date": required("purchase_date", self._times.instant, root.OrderDate),
            "order_status": status,
            "delivery_method": notes.text("delivery_method", root.DeliveryMethod),
            "billing_address": _address(addresses, _BILLING, _BILLING_FIELDS, tidy, self._country, notes),
            "delivery_address": _address(addresses, _DELIVERY, _DELIVERY_FIELDS, tidy, self._country, notes),
            "products": products,
        }
        return Mapped(document, None, tuple(notes))

    def _status(self, order: Order) -> str:
        text = order.Status
        if self._status_names and clean(text) is None:
            number = clean(order.OrderStatus)
            text = self._status_names.get(number, number) if number else None
        return required("order_status", identity, text)

    def _email(self, order: Order) -> str:
        email = canonical_email(order.Email)
        if email in self._placeholders:
            raise InvalidRecord("email", PLACEHOLDER)
        return email

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
        dropped, fma = self._dropped, EXACT.fma
        for index, line in enumerate(_all_lines(tree)):
            try:
                qty = quantity(line.Quantity)
                sold = _sold[line.Title, line.Barcode, line.ProductID, line.UnitPrice, line.UnitDiscount]
            except BadValue:
                raise _bad_line(index, line) from None
            if qty is None or sold is None:
                raise _bad_line(index, line)
            if sold.problems:
                notes += sold.problems
            if _word(line.StatusCode) in dropped:
                whole = False
                left.append(sold.product(0))
            elif not qty:
                left.append(sold.product(0))
            else:
                kept.append(sold.products.get(qty) or sold.product(qty))
                subtotal = fma(qty, sold.net, subtotal)
        if not kept and not left:
            raise InvalidRecord("lines", "missing")
        return kept or left, subtotal, whole

    def _currency(self, order: Order) -> str:
        currency = self._currencies.get(_word(order.Website) or self._default)
        if currency is None:
            raise InvalidRecord("currency", "unknown_website")
        return currency


class _Sold:
    """What lines of one item at one price have in common, whatever their quantity.

    Attributes:
        net: the unit price less the unit's discount, exact.
        problems: what is to be noted of such a line.
        products: the lines of an order document, by quantity.
    """

    __slots__ = ("_name", "_price", "_product_id", "_sku", "net", "problems", "products")

    def __init__(
        self,
        title: str | None,
        barcode: str | None,
        product_id: str | None,
        price: Decimal,
        discount: Decimal,
    ) -> None:
        notes = Notes()
        if not (barcode or "").strip():
            notes.append(("lines[].sku", "missing"))
        self._sku = notes.optional("lines[].sku", identity, barcode) or UNKNOWN_SKU
        self._name = notes.fit("lines[].name", clean_title(title) or self._sku)
        self._product_id = notes.optional("lines[].product_id", identity, product_id)
        self._price = float(price)
        self.net = EXACT.subtract(price, discount)
        self.problems = tuple(notes)
        self.products: dict[int, Shared] = {}

    def product(self, qty: int) -> Shared:
        """The line with this quantity."""
        product = self.products.get(qty)
        if product is None:
            product = Shared(
                name=self._name, sku=self._sku, price=self._price, qty=qty, product_id=self._product_id
            )
            if len(self.products) < _QUANTITIES:
                self.products[qty] = product
        return product


def _sell(texts: tuple[str | None, str | None, str | None, str | None, str | None]) -> _Sold | None:
    title, barcode, product_id, price, discount = texts
    exact = money(price)
    off = money(discount) or _ZERO
    return None if exact is None else _Sold(title, barcode, product_id, exact, off)


_sold = Memory(_sell, _REMEMBERED)


def _all_lines(tree: OrderTree) -> Iterable[OrderLine]:
    if len(tree.orders) == 1:
        return tree.orders[0].Items or ()
    return [line for order in tree.orders for line in order.Items or ()]


def _bad_line(index: int, line: OrderLine) -> InvalidRecord:
    """What is wrong with a line: the first bad value, else the first that is missing."""
    field = "quantity"
    try:
        qty = quantity(line.Quantity)
        field = "unit_price"
        price = money(line.UnitPrice)
        field = "unit_discount"
        money(line.UnitDiscount)
    except BadValue as bad:
        return InvalidRecord(f"lines[{index}].{field}", bad.code)
    missing = "quantity" if qty is None else "unit_price"
    assert qty is None or price is None  # noqa: S101 - nothing else is wrong with a line
    return InvalidRecord(f"lines[{index}].{missing}", "missing")


def _address(
    addresses: Iterable[Address],
    kinds: frozenset[str],
    fields: Sequence[str],
    tidy: Tidy,
    country: Reader,
    notes: Notes,
) -> Document | None:
    """The first address of these kinds that says anything, under these names."""
    for address in addresses:
        if (_word(address.Type) or "").lower() not in kinds:
            continue
        lines = (
            address.Street,
            address.Suburb,
            address.City,
            address.State,
            address.Country,
            address.Postcode,
        )
        texts = [tidy(line) or None if line else None for line in lines]
        if country is not clean:
            texts[_COUNTRY] = country(address.Country)
        written = "".join([text for text in texts if text])
        if len(written) > LIMIT // 2:
            texts = [notes.fit(field, text) for field, text in zip(fields, texts, strict=True)]
        if written:
            return dict(zip(fields, texts, strict=True))
    return None


def _sum(field: str, amounts: list[str | None]) -> tuple[Decimal, float]:
    """What the amounts come to, exact and as it is sent."""
    if len(amounts) == 1:
        return _single[field, amounts[0]]
    total = _ZERO
    try:
        for text in amounts:
            value = money(text)
            if value:
                total = EXACT.add(total, value)
    except BadValue as bad:
        raise InvalidRecord(field, bad.code) from bad
    return total, _cents(field, total)


def _one(field_and_text: tuple[str, str | None]) -> tuple[Decimal, float]:
    field, text = field_and_text
    try:
        value = amount(text) or _ZERO
    except BadValue as bad:
        raise InvalidRecord(field, bad.code) from bad
    return value, _cents(field, value)


_single = Memory(_one)


def _cents(field: str, value: Decimal) -> float:
    if not value.same_quantum(_CENT):
        value = value.quantize(_CENT, ROUND_HALF_EVEN, EXACT)
    if abs(value) >= _MAX_AMOUNT:
        raise InvalidRecord(field, "out_of_range")
    return float(value) + 0.0  # an amount of -0.00 is 0.00
