"""Changes to a living shop: what people do in the back office and at the till."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal

import msgspec

from sandbox.estar.contract import Contract
from sandbox.estar.orders import new_order, return_line, settle, split_off
from sandbox.estar.state import Body, Event, Line, Order, R, Record, Shop, Table, cents
from sandbox.estar.statuses import ORDER_STATUSES
from sandbox.estar.truth import canonical

EditKind = Literal["price", "email", "unsubscribe", "order", "split", "return", "void", "replace"]
KINDS: tuple[EditKind, ...] = ("price", "email", "unsubscribe", "order", "split", "return", "void")
_TRIES = 50


class ImpossibleEdit(Exception):  # noqa: N818 - named for what it is
    """There is no such record, or none that could be edited so; the text says which."""


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One change; what is not given is chosen by the dice."""

    kind: EditKind
    id: int | None = None
    """Of the product, customer or order; for `order` the customer, 0 for a guest."""
    price: Annotated[str, msgspec.Meta(pattern=r"^\d+(\.\d+)?$")] | None = None
    """For `price`."""
    email: str | None = None
    """For `email`, and for the order of a guest."""
    quantity: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """For `return`: how many come back."""


class Edited(msgspec.Struct, frozen=True):
    """What was changed, and the events that tell of it."""

    kind: EditKind
    entity: Literal["customers", "products", "orders"]
    id: int
    events: list[Event]


class Editor:
    """Carries out edits; the caller holds the shop's lock.

    Args:
        shop: what to edit.
        contract: which lines and statuses count.
        dice: choose what an edit leaves open.
    """

    def __init__(self, shop: Shop, contract: Contract, dice: random.Random) -> None:
        self._shop = shop
        self._contract = contract
        self._dice = dice
        self._edits: dict[EditKind, Callable[[Edit, datetime], Edited]] = {
            "price": self._price,
            "email": self._email,
            "unsubscribe": self._unsubscribe,
            "order": self._order,
            "split": self._split,
            "return": self._return,
            "void": self._void,
            "replace": self._replace,
        }

    def apply(self, edit: Edit, now: datetime) -> Edited:
        """Carry out one edit.

        Args:
            edit: what to change.
            now: the time of the change, naive, in the shop's zone. DateModified rises in any case.

        Raises:
            ImpossibleEdit: nothing was changed.
        """
        return self._edits[edit.kind](edit, now)

    def _price(self, edit: Edit, now: datetime) -> Edited:
        product = self._choose(self._shop.products, edit.id, lambda p: bool(p.rows("Items")))
        item = self._dice.choice(product.rows("Items"))
        before = Decimal(str(item.get("Price") or product.leaf("Price") or "0"))
        price = edit.price or f"{cents(before + Decimal(self._dice.randint(1, 500)) / 100)}"
        item["Price"] = price
        self._shop.products.touch(product, _later(product, now))
        return Edited("price", "products", product.id, [])

    def _email(self, edit: Edit, now: datetime) -> Edited:
        customer = self._choose(
            self._shop.customers, edit.id, lambda c: canonical(c.leaf("Email")) is not None
        )
        fresh = f"changed.{customer.id}.{self._dice.randrange(10**6)}@example.com"
        self._shop.left_emails.add(str(customer.leaf("Email")))
        customer.body["Email"] = edit.email or fresh
        self._shop.customers.touch(customer, _later(customer, now))
        return Edited("email", "customers", customer.id, [])

    def _unsubscribe(self, edit: Edit, now: datetime) -> Edited:
        customer = self._choose(self._shop.customers, edit.id, lambda c: c.leaf("LpmStatus") == "1")
        customer.body["LpmStatus"] = "0"
        self._shop.customers.touch(customer, _later(customer, now))
        return Edited("unsubscribe", "customers", customer.id, [])

    def _order(self, edit: Edit, now: datetime) -> Edited:
        order_id = self._shop.orders.next_id()
        if edit.id == 0:
            customer_id, email = 0, edit.email or f"guest-{order_id}@example.com"
        else:
            customer = self._choose(
                self._shop.customers, edit.id, lambda c: canonical(c.leaf("Email")) is not None
            )
            customer_id, email = customer.id, customer.leaf("Email") or ""
        lines = [self._new_line(order_id) for _ in range(self._dice.randint(1, 4))]
        order = new_order(order_id, customer_id, email, "Confirmed", now, lines)
        self._shop.add_order(order)
        self._settle(order)
        event = self._shop.notify("order.confirmed", orderID=order_id)
        return Edited("order", "orders", order_id, [event])

    def _new_line(self, order_id: int) -> Line:
        product = self._choose(self._shop.products, None, lambda p: any(map(_sells, p.rows("Items"))))
        item = self._dice.choice([i for i in product.rows("Items") if _sells(i)])
        return Line(
            self._shop.line_id(),
            order_id,
            product.id,
            barcode=str(item["Barcode"]),
            title=product.leaf("Title"),
            quantity=self._dice.randint(1, 5),
            price=str(item.get("Price") or product.leaf("Price") or "0"),
        )

    def _split(self, edit: Edit, now: datetime) -> Edited:
        order = self._choose_order(edit, at_least=2)
        line = self._dice.choice(self._live(order))
        child_id = self._shop.orders.next_id()
        child = split_off(self._shop, order, [line], child_id, _later(order, now))
        self._settle(order)
        self._settle(child)
        event = self._shop.notify("order.split", orderID=order.id, newOrderID=child_id)
        return Edited("split", "orders", order.id, [event])

    def _return(self, edit: Edit, now: datetime) -> Edited:
        order = self._choose_order(edit, at_least=1)
        line = self._dice.choice(self._live(order))
        quantity = edit.quantity or self._dice.randint(1, line.quantity)
        event = return_line(self._shop, order, line, quantity, _later(order, now))
        self._settle(order)
        return Edited("return", "orders", order.id, [event])

    def _void(self, edit: Edit, now: datetime) -> Edited:
        order = self._choose_order(edit, at_least=0, root=True)
        order.body["Status"] = "Cancelled"
        order.body["OrderStatus"] = str(ORDER_STATUSES["Cancelled"])
        self._shop.orders.touch(order, _later(order, now))
        return Edited("void", "orders", order.id, [self._shop.notify("order.voided", orderID=order.id)])

    def _replace(self, edit: Edit, now: datetime) -> Edited:
        """Send the goods of an order once more, for nothing: an order of its own that says which one it replaces."""
        original = self._choose_order(edit, at_least=1, root=True)
        order_id = self._shop.orders.next_id()
        lines = [replace(line, id=self._shop.line_id(), order_id=order_id) for line in self._live(original)]
        customer, email = original.leaf("Customer") or "0", original.leaf("Email")
        order = new_order(order_id, int(customer), email, "Confirmed", now, lines)
        order.body["ReplacementOf"] = str(original.id)
        self._shop.add_order(order)
        self._settle(order)
        event = self._shop.notify(
            "order.replacement.confirmed", orderID=original.id, replacementOrderID=order_id
        )
        return Edited("replace", "orders", order_id, [event])

    def _settle(self, order: Order) -> None:
        settle(order, self._contract.dropped_line_statuses)

    def _live(self, order: Order) -> list[Line]:
        dropped = self._contract.dropped_line_statuses
        return [line for line in order.lines if line.quantity > 0 and line.status not in dropped]

    def _choose_order(self, edit: Edit, *, at_least: int, root: bool = False) -> Order:
        paid = self._contract.paid_statuses - {"Cancelled"}
        return self._choose(
            self._shop.orders,
            edit.id,
            lambda o: (
                o.leaf("Status") in paid
                and len(self._live(o)) >= at_least
                and not (root and o.parent is not None)
            ),
        )

    def _choose(self, table: Table[R], wanted: int | None, fits: Callable[[R], bool]) -> R:
        for _ in range(_TRIES if wanted is None and table.is_large else 0):
            if fits(record := table.pick(self._dice)):
                return table.hold(record)
        candidates = table.records.values() if wanted is None else table.get([wanted])
        fitting = [record for record in candidates if fits(record)]
        if not fitting:
            raise ImpossibleEdit(f"no record fits{'' if wanted is None else f' (asked for id {wanted})'}")
        return table.hold(self._dice.choice(fitting))


def _sells(item: Body) -> bool:
    return bool(item.get("Barcode"))


def _later(record: Record, now: datetime) -> datetime:
    return max(now, record.modified + timedelta(milliseconds=1))
