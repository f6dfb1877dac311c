"""Records as XML text, by string building: a response holds thousands of lines."""

import re

from sandbox.estar.state import Line, Node, Record

# What XML 1.0 can't hold at all is written as a reference, as .NET does; a strict parser refuses it.
_SPECIAL = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def _reference(match: re.Match[str]) -> str:
    return _NAMED.get(match[0]) or f"&#x{ord(match[0]):X};"


def text(value: str) -> str:
    """Text content, escaped."""
    return _SPECIAL.sub(_reference, value)


def element(tag: str, node: Node) -> str:
    """One element: None is `xsi:nil`, "" is empty; a dict holds children; a list holds repeated ones."""
    if node is None:
        return f'<{tag} xsi:nil="true" />'
    if isinstance(node, str):
        inside = _SPECIAL.sub(_reference, node)
    elif isinstance(node, dict):
        inside = "".join([element(name, child) for name, child in node.items()])
    else:
        inside = "".join([_line(row) if isinstance(row, Line) else element(*row) for row in node])
    return f"<{tag}>{inside}</{tag}>" if inside else f"<{tag} />"


def record(tag: str, record: Record) -> str:
    """A whole record."""
    return element(tag, record.body)


def _line(line: Line) -> str:
    return (
        f"<OrderItem><ID>{line.id}</ID><OrderID>{line.order_id}</OrderID>"
        f"{element('Style', line.style)}{element('Title', line.title)}"
        f"<Barcode>{_SPECIAL.sub(_reference, line.barcode)}</Barcode>"
        f"{element('PackingInstructions', line.packing)}<Quantity>{line.quantity}</Quantity>"
        f"<QuantityScanned>0</QuantityScanned><StatusCode>{line.status}</StatusCode><Supplier />"
        f'<DateScanned xsi:nil="true" /><UnitPrice>{line.price}</UnitPrice>'
        f"<UnitDiscount>{line.discount}</UnitDiscount><ProductID>{line.product_id}</ProductID></OrderItem>"
    )
