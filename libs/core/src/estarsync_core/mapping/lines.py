"""The lines of an order record: what was bought, for how much, and what they come to.

Amounts are exact. Nearly all are whole cents, whose sum is a plain integer; the others are added up as decimals.
"""

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal

from estarsync_core.errors import InvalidRecord
from estarsync_core.estar.records import OrderLine
from estarsync_core.mapping.fields import EXACT, BadValue, Memory, Notes, amount, identity, quantity
from estarsync_core.mapping.result import Document, Shared
from estarsync_core.mapping.text import clean, clean_title

UNKNOWN_SKU = "unknown"

_ZERO = Decimal(0)
_CENT = Decimal("0.01")
_MAX_CENTS = 10**15  # as many digits as a double keeps
_MAX_AMOUNT = EXACT.scaleb(Decimal(_MAX_CENTS), -2)
_REMEMBERED = 8192  # a shop's orders hold the same few things again and again
_QUANTITIES = 8  # of one item, that are remembered


class Sum:
    """An exact amount that grows.

    Attributes:
        cents: the whole cents in it.
        rest: what came in finer amounts, for what they are; None while there were none.
    """

    __slots__ = ("cents", "rest")

    def __init__(self, cents: int, rest: Decimal | None) -> None:
        self.cents = cents
        self.rest = rest

    def exact(self) -> Decimal:
        """The amount."""
        whole = EXACT.scaleb(Decimal(self.cents), -2)
        return whole if self.rest is None else EXACT.add(whole, self.rest)

    def sent(self, field: str) -> float:
        """The amount as it is sent.

        Raises:
            InvalidRecord: code `out_of_range`, where a double does not keep every digit.
        """
        if self.rest is not None:
            return in_cents(field, self.exact())
        if -_MAX_CENTS < self.cents < _MAX_CENTS:
            return self.cents / 100
        raise InvalidRecord(field, "out_of_range")


def in_cents(field: str, value: Decimal) -> float:
    """An amount as it is sent: rounded to two decimals.

    Raises:
        InvalidRecord: code `out_of_range`, where a double does not keep every digit.
    """
    if not value.same_quantum(_CENT):
        value = value.quantize(_CENT, ROUND_HALF_EVEN, EXACT)
    if abs(value) >= _MAX_AMOUNT:
        raise InvalidRecord(field, "out_of_range")
    return float(value) + 0.0  # an amount of -0.00 is 0.00


class Lines:
    """Reads the lines of orders.

    Args:
        dropped: the statuses of lines that are left out.
    """

    def __init__(self, dropped: frozenset[str]) -> None:
        self._dropped = Memory(lambda status: clean(status) in dropped)

    def read(self, lines: Iterable[OrderLine], notes: Notes) -> tuple[list[Document], Sum, bool]:
        """The products, what they come to, and whether every line is among them.

        A line without a barcode keeps its place and its amount, since the shopper paid for it, under a sku that
        no catalogue holds. Where no line is left, all of them stay, with quantity 0.

        Raises:
            InvalidRecord: there is no line, or one has a quantity, a price or a discount that can't be used.
        """
        kept: list[Document] = []
        left: list[Document] = []
        cents, rest, whole = 0, None, True
        dropped = self._dropped
        for line in lines:
            try:
                qty = quantity(line.Quantity)
                sold = _sold[line.Title, line.Barcode, line.ProductID, line.UnitPrice, line.UnitDiscount]
            except BadValue:
                raise _bad_line(len(kept) + len(left), line) from None
            if qty is None or sold is None:
                raise _bad_line(len(kept) + len(left), line)
            if sold.problems:
                notes += sold.problems
            if dropped[line.StatusCode]:
                whole = False
                left.append(sold.product(0))
            elif not qty:
                left.append(sold.product(0))
            else:
                kept.append(sold.products.get(qty) or sold.product(qty))
                net = sold.net
                if isinstance(net, int):
                    cents += qty * net
                else:
                    rest = EXACT.fma(qty, net, rest or _ZERO)
        if not kept and not left:
            raise InvalidRecord("lines", "missing")
        return kept or left, Sum(cents, rest), whole


class Sold:
    """What lines of one item at one price have in common, whatever their quantity.

    Attributes:
        net: the unit price less the unit's discount, exact: in cents, or else as it is.
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
        net = EXACT.subtract(price, discount)
        cents = int(EXACT.scaleb(net, 2))
        self.net: int | Decimal = cents if EXACT.scaleb(Decimal(cents), -2) == net else net
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


def _sell(texts: tuple[str | None, str | None, str | None, str | None, str | None]) -> Sold | None:
    title, barcode, product_id, price, discount = texts
    exact = amount(price)
    off = amount(discount) or _ZERO
    return None if exact is None else Sold(title, barcode, product_id, exact, off)


_sold = Memory(_sell, _REMEMBERED)


def _bad_line(index: int, line: OrderLine) -> InvalidRecord:
    """What is wrong with a line: the first bad value, else the first that is missing."""
    field = "quantity"
    try:
        qty = quantity(line.Quantity)
        field = "unit_price"
        price = amount(line.UnitPrice)
        field = "unit_discount"
        amount(line.UnitDiscount)
    except BadValue as bad:
        return InvalidRecord(f"lines[{index}].{field}", bad.code)
    missing = "quantity" if qty is None else "unit_price"
    assert qty is None or price is None  # noqa: S101 - nothing else is wrong with a line
    return InvalidRecord(f"lines[{index}].{missing}", "missing")
