"""Generated orders: guests, split trees, returns, unpaid and voided orders, and e-mails that lead nowhere."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sandbox.estar.contract import Contract
from sandbox.estar.generate_dice import NULL_DATE, PLANTED_CARD, PLANTED_TEXT, Dice, address
from sandbox.estar.orders import new_order, return_line, settle, split_off
from sandbox.estar.state import Body, Line, Node, Order, Record, Shop, repeat_bodies, stamp
from sandbox.estar.truth import canonical

_KINDS = {
    "guest": 0.12,
    "guest-with-account": 0.02,
    "guest-nil": 0.01,
    "no-email": 0.01,
    "bad-email": 0.01,
    "split": 0.03,
    "split-twice": 0.01,
    "split-line": 0.02,
    "deleted-line": 0.03,
    "returned": 0.03,
    "all-deleted": 0.01,
    "voided": 0.03,
    "initiated": 0.02,
    "card-refused": 0.01,
    "fraud": 0.01,
    "unknown-status": 0.01,
    "discounted": 0.05,
    "free-line": 0.02,
    "refunded": 0.02,
    "voucher": 0.02,
}
_STATUSES = {
    "voided": "Cancelled",
    "initiated": "Initiated",
    "card-refused": "InvalidCardNumber",
    "fraud": "FraudulentOrder",
    "unknown-status": "AwaitingDrone",
}
_PAID = ("Completed", "Completed", "Completed", "Confirmed", "ReadyToDispatch", "DispatchInProgress3PL")


@dataclass(frozen=True, slots=True)
class _Offer:
    """Something that can be ordered."""

    product: int
    barcode: str
    style: str
    title: str
    price: str


def place_orders(dice: Dice, shop: Shop, count: int) -> None:
    """File so many root orders, ids ascending with time, and the children of those that are split."""
    offers = [offer for product in shop.products.records.values() for offer in _offers(product)]
    reachable = [c for c in shop.customers.records.values() if canonical(c.leaf("Email")) is not None]
    dropped = Contract().dropped_line_statuses
    first = 50_001
    kinds = dice.spread(count, _KINDS)
    times = dice.times(count)
    next_child = first + count
    for i, (kind, when) in enumerate(zip(kinds, times, strict=True)):
        order = _order(dice, shop, first + i, kind, when, reachable, offers)
        shop.add_order(order)
        change = _CHANGES.get(kind)
        children = change(dice, shop, order, next_child) if change else []
        next_child += len(children)
        for member in (order, *children):
            settle(member, dropped)
            _dress(dice, member, kind)


def _offers(product: Record) -> list[_Offer]:
    return [
        _Offer(
            product.id,
            barcode,
            str(item["Style"]),
            product.leaf("Title") or "",
            str(item.get("Price") or product.leaf("Price")),
        )
        for item in product.rows("Items")
        if isinstance(barcode := item["Barcode"], str) and barcode
    ]


def _order(
    dice: Dice,
    shop: Shop,
    number: int,
    kind: str,
    when: datetime,
    reachable: list[Record],
    offers: list[_Offer],
) -> Order:
    customer = dice.random.choice(reachable)
    owner, email = customer.id, customer.leaf("Email")
    if kind.startswith("guest"):
        owner, email = 0, f"guest{number}@example.org"
        if kind == "guest-with-account":
            email = (customer.leaf("Email") or "").upper()
    elif kind in {"no-email", "bad-email"}:
        email = dice.random.choice((None, "")) if kind == "no-email" else "till@shop"
    lines = [
        Line(
            shop.line_id(),
            number,
            offer.product,
            offer.barcode,
            offer.title,
            quantity=dice.random.randint(1, 5),
            price="0.00" if kind == "free-line" and not place else offer.price,
            style=offer.style,
            packing=f"{PLANTED_TEXT}packing: gift for Sam",
        )
        for place, offer in enumerate(dice.random.choices(offers, k=dice.random.randint(2, 6)))
    ]
    status = _STATUSES.get(kind) or dice.random.choice(_PAID)
    order = new_order(number, owner, email, status, when, lines)
    if kind == "guest-nil":
        order.body["Customer"] = None
    order.body["FreightTotal"] = dice.random.choice(("0.00", "6.95", "12.0000"))
    if kind == "discounted":
        order.body["DiscountTotal"] = "1.50"
        for line in lines:
            line.discount = "0.25" if line.price != "0.00" else "0"
    return order


def _later(dice: Dice, order: Order) -> datetime:
    return order.modified + (dice.now - order.modified) * dice.random.random() // 2


def _split(dice: Dice, shop: Shop, order: Order, child_id: int) -> list[Order]:
    return [split_off(shop, order, order.lines[:1], child_id, _second(_later(dice, order)))]


def _split_twice(dice: Dice, shop: Shop, order: Order, child_id: int) -> list[Order]:
    first = split_off(shop, order, order.lines[:2], child_id, _second(_later(dice, order)))
    again = split_off(shop, first, first.lines[1:], child_id + 1, _second(_later(dice, first)))
    return [first, again]


def _split_line(dice: Dice, shop: Shop, order: Order, child_id: int) -> list[Order]:
    """Part of a line's quantity moves: what stays is PartialSplit, what goes PartialSplitToNewOrder."""
    stays = order.lines[0]
    stays.quantity += 1
    goes = Line(
        shop.line_id(), order.id, stays.product_id, stays.barcode, stays.title, 1, stays.price, stays.discount
    )
    order.lines.insert(1, goes)
    child = split_off(shop, order, [goes], child_id, _second(_later(dice, order)))
    stays.quantity -= 1
    stays.status, goes.status = "PartialSplit", "PartialSplitToNewOrder"
    return [child]


def _delete_line(dice: Dice, shop: Shop, order: Order, _: int) -> list[Order]:
    order.lines[0].status = "Deleted"  # its quantity stays, as when staff delete it
    shop.orders.touch(order, _second(_later(dice, order)))
    return []


def _return_some(dice: Dice, shop: Shop, order: Order, _: int) -> list[Order]:
    return_line(shop, order, order.lines[-1], 1, _second(_later(dice, order)))
    return []


def _delete_all(dice: Dice, shop: Shop, order: Order, _: int) -> list[Order]:
    order.body["FreightTotal"] = "0.00"
    for line in order.lines:
        return_line(shop, order, line, line.quantity, _second(_later(dice, order)))
    return []


def _void(dice: Dice, shop: Shop, order: Order, _: int) -> list[Order]:
    shop.orders.touch(order, _second(_later(dice, order)))
    shop.notify("order.voided", orderID=order.id)
    return []


_CHANGES: dict[str, Callable[[Dice, Shop, Order, int], list[Order]]] = {
    "split": _split,
    "split-twice": _split_twice,
    "split-line": _split_line,
    "deleted-line": _delete_line,
    "returned": _return_some,
    "all-deleted": _delete_all,
    "voided": _void,
}


def _second(when: datetime) -> datetime:
    return when.replace(microsecond=0) + timedelta(seconds=1)


def _dress(dice: Dice, order: Order, kind: str) -> None:
    """Add what an order has beside what counts, secrets included, in published order."""
    plain = order.body
    head: Body = {name: plain[name] for name in ("ID", "Customer", "OrderDate")}
    head["Phone"] = "021 555 013"
    head |= {name: plain[name] for name in ("Email", "Status", "OrderStatus")}
    head["AdminReference"] = f"{PLANTED_TEXT}admin: call before dispatch"
    head["CustomerReference"] = dice.random.choice(("", "PO 12/3"))
    tail: Body = {name: plain[name] for name in ("Items", "DateModified")}
    middle: Body = {name: value for name, value in plain.items() if name not in head and name not in tail}
    middle["DeliveryMethod"] = dice.random.choice(("Courier", "Click & Collect", ""))
    middle["Addresses"] = repeat_bodies(
        "Address", (address(dice, place, "Ana", "Baker", order.id) for place in ("Billing", "Delivery"))
    )
    tail = {
        "Items": order.lines,
        "Payments": _payments(dice, order, kind),
        "Vouchers": _vouchers(kind),
        **tail,
    }
    order.body = {**head, **middle, **tail}


def _payments(dice: Dice, order: Order, kind: str) -> Node:
    rows = [("CreditCard", str(order.body["Total"]))]
    if kind == "refunded":
        rows.append(("PayPalSaleRefund", "-5.00"))
    return repeat_bodies(
        "Payment",
        (
            {
                "ID": str(order.id * 10 + place),
                "TransactionType": transaction,
                "TransactionAmount": amount,
                "TransactionDate": stamp(order.created),
                "TransactionStatus": "1",
                "CardNumber": PLANTED_CARD,
                "CardExpiryMonth": "12",
                "CardExpiryYear": str(dice.now.year + 3),
                "CardHolder": f"{PLANTED_TEXT}holder",
            }
            for place, (transaction, amount) in enumerate(rows)
        ),
    )


def _vouchers(kind: str) -> Node:
    voucher: Body = {
        "Value": "25.00",
        "RecipientFirstName": f"{PLANTED_TEXT}recipient",
        "RecipientEmail": f"{PLANTED_TEXT}recipient@example.net",
        "Message": f"{PLANTED_TEXT}message",
        "DeliveryDate": NULL_DATE,
    }
    return repeat_bodies("Voucher", [voucher] if kind == "voucher" else [])
