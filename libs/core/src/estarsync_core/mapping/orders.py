"""A split tree of orders to one order record.

The root speaks for the tree: its id, its status, its shopper, its time and its addresses. Lines, freight and
discounts are gathered from all its orders, so that revenue counts once.
"""

import re
from collections.abc import Iterable
from decimal import Decimal

import msgspec

from estarsync_core.entities import Reason
from estarsync_core.errors import InvalidRecord
from estarsync_core.estar.grouping import PLACEHOLDER
from estarsync_core.estar.records import Order, OrderLine, OrderTree
from estarsync_core.keys import canonical_email
from estarsync_core.mapping.addresses import billing_address, delivery_address
from estarsync_core.mapping.fields import (
    EXACT,
    BadValue,
    Memory,
    Notes,
    Times,
    amount,
    country_reader,
    identity,
    required,
)
from estarsync_core.mapping.lines import Lines, in_cents
from estarsync_core.mapping.raw import decode
from estarsync_core.mapping.result import Mapped
from estarsync_core.mapping.text import LIMIT, clean, is_plain
from estarsync_core.profile import TenantProfile

_ZERO = Decimal(0)
_NO_ORDER = frozenset({"", "0"})
# An amount that is written so has the double of its text, and no other meaning.
_PLAIN_CENTS = re.compile(r"-?[0-9]{1,11}\.[0-9]{2}")

_word = Memory(clean)
"""`clean` for what is one of a few words: a way of delivery, a website."""
_state = Memory(lambda text: required("order_status", identity, text))


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
        self._country = country_reader(profile.countries) if profile.countries else None
        self._lines = Lines(profile.orders.dropped_line_statuses).read
        currencies = {name: site.currency for name, site in profile.websites.items()}
        default = profile.default_website
        self._currencies = Memory(lambda website: currencies.get(clean(website) or default))
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
        orders = tree.orders
        if not orders:
            raise InvalidRecord("orders", "missing")
        root = orders[0]
        plainly_equal = root.ID.strip() == key and len(key) <= LIMIT // 2
        if not plainly_equal and required("id", identity, root.ID) != key:
            raise InvalidRecord("id", "key_mismatch")
        status = self._status(root)
        if status not in self._statuses or (root.ReplacementOf is not None and self._left_out(root)):
            return Mapped(None, Reason.REMOVED)
        notes = Notes()
        if len(orders) == 1:
            products, subtotal, whole = self._lines(root.Items or (), notes)
            freight, freight_sent = _freight[root.FreightTotal]
            discount, discount_sent = _discount[root.DiscountTotal]
        else:
            orders = [order for order in orders if not self._left_out(order)]
            products, subtotal, whole = self._lines(_all_lines(orders), notes)
            freight, freight_sent = _sum("delivery_total", [order.FreightTotal for order in orders])
            discount, discount_sent = _sum("discount_amount", [order.DiscountTotal for order in orders])
        if not products[0]["qty"]:  # then none has one
            discount, discount_sent = _ZERO, 0.0
        total = _own_total(root.Total, notes) if whole and len(orders) == 1 else None
        if total is None:
            exact = EXACT.subtract(EXACT.add(subtotal.exact(), freight), discount)
            total = in_cents("order_total", exact)
        addresses = root.Addresses or ()
        tidy = str.strip if is_plain(value) else clean
        document = {
            "id": key,
            "email": self._email(root),
            "order_total": total,
            "order_subtotal": subtotal.sent("order_subtotal"),
            "discount_amount": discount_sent,
            "delivery_total": freight_sent,
            "currency": self._currency(root),
            "purchase_date": required("purchase_date", self._times.instant, root.OrderDate),
            "order_status": status,
            "delivery_method": notes.fit("delivery_method", _word[root.DeliveryMethod]),
            "billing_address": billing_address(addresses, tidy, self._country, notes),
            "delivery_address": delivery_address(addresses, tidy, self._country, notes),
            "products": products,
        }
        return Mapped(document, None, tuple(notes))

    def _status(self, order: Order) -> str:
        text = order.Status
        if self._status_names and clean(text) is None:
            number = clean(order.OrderStatus)
            text = self._status_names.get(number, number) if number else None
        return _state[text]

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

    def _currency(self, order: Order) -> str:
        currency = self._currencies[order.Website]
        if currency is None:
            raise InvalidRecord("currency", "unknown_website")
        return currency


def _all_lines(orders: Iterable[Order]) -> list[OrderLine]:
    return [line for order in orders for line in order.Items or ()]


def _own_total(text: str | None, notes: Notes) -> float | None:
    """The shop's own total as it is sent; None where it can't be used."""
    if text is not None and _PLAIN_CENTS.fullmatch(text):
        return float(text) + 0.0  # -0.00 is 0.00
    total = notes.optional("order_total", amount, text)
    return None if total is None else in_cents("order_total", total)


def _sum(field: str, amounts: list[str | None]) -> tuple[Decimal, float]:
    """What the amounts come to, exact and as it is sent."""
    total = _ZERO
    try:
        for text in amounts:
            value = amount(text)
            if value:
                total = EXACT.add(total, value)
    except BadValue as bad:
        raise InvalidRecord(field, bad.code) from bad
    return total, in_cents(field, total)


_freight = Memory(lambda text: _sum("delivery_total", [text]))
_discount = Memory(lambda text: _sum("discount_amount", [text]))
