"""How orders are made and how they change, for the generator, the file and the edits alike."""

from datetime import datetime

from sandbox.estar.state import Body, Event, Line, Order, Shop, cents, stamp
from sandbox.estar.statuses import ORDER_STATUSES


def new_order(
    order_id: int, customer_id: int, email: str | None, status: str, when: datetime, lines: list[Line]
) -> Order:
    """An order with the elements that every order has, in published order; `settle` fills in its total."""
    body: Body = {
        "ID": str(order_id),
        "Customer": str(customer_id),
        "OrderDate": stamp(when),
        "Email": email,
        "Status": status,
        "OrderStatus": str(ORDER_STATUSES.get(status, ORDER_STATUSES["Unknown"])),
        "Website": "1",
        "ParentOrderID": None,
        "FreightTotal": "0.00",
        "DiscountTotal": "0.00",
        "Total": "0.00",
        "Items": lines,
        "DateModified": stamp(when),
    }
    return Order(order_id, when, when, body, lines)


def settle(order: Order, dropped: frozenset[str]) -> None:
    """Bring an order's own total up to date."""
    order.body["Total"] = str(cents(order.amount(dropped)))


def split_off(shop: Shop, order: Order, lines: list[Line], child_id: int, when: datetime) -> Order:
    """Move whole lines to a new child order, which is filed; the caller settles both."""
    moved = []
    for line in lines:
        moved.append(
            Line(
                shop.line_id(),
                child_id,
                line.product_id,
                line.barcode,
                line.title,
                line.quantity,
                line.price,
                line.discount,
            )
        )
        line.status = "SplitToNewOrder"
    child = new_order(child_id, 0, order.leaf("Email"), order.leaf("Status") or "", when, moved)
    child.body["Customer"] = order.body["Customer"]
    child.body["ParentOrderID"] = str(order.id)
    child.parent = order.id
    shop.add_order(child)
    shop.orders.touch(order, when)
    return child


def return_line(shop: Shop, order: Order, line: Line, quantity: int, when: datetime) -> Event:
    """Take back so many of a line; one with nothing left is marked Deleted; the caller settles the order."""
    line.quantity = max(0, line.quantity - quantity)
    if line.quantity == 0:
        line.status = "Deleted"
    kind = "order.item.deleted" if line.quantity == 0 else "order.item.quantity.changed"
    shop.orders.touch(order, when)
    return shop.notify(kind, orderID=order.id, orderItemID=line.id)
