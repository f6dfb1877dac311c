"""What a true copy of the shop must hold, by rules of the sandbox's own.

Nothing here uses estarsync's mapping, so that agreement between the two means something.
"""

import re
import unicodedata
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from sandbox.estar.contract import Contract
from sandbox.estar.state import Shop, cents

_EMAIL = re.compile(r"[^@\s,;<>()\"]+@[^@\s,;<>()\"]+\.[a-z]+")


@dataclass(frozen=True, slots=True)
class ExpectedOrder:
    """One order tree: its root's id, the canonical e-mail of its contact, its total with two decimals."""

    id: str
    email: str
    total: str


@dataclass(frozen=True, slots=True)
class Truth:
    """What must arrive, and how many records can't.

    Attributes:
        left_contacts: e-mails that no customer has any more. Their past orders carry them still: whether such a
            contact is there depends on what Dotdigital knew of it when its e-mail was changed.
    """

    contacts: list[str]
    left_contacts: list[str]
    unusable_contacts: int
    products: list[str]
    unusable_products: int
    orders: list[ExpectedOrder]
    unusable_orders: int
    filtered_orders: int

    @property
    def revenue(self) -> Decimal:
        """The sum of the expected orders' totals."""
        return sum((Decimal(order.total) for order in self.orders), Decimal("0.00"))

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "contacts": {
                "expected": self.contacts,
                "left": self.left_contacts,
                "unusable": self.unusable_contacts,
            },
            "products": {"expected": self.products, "unusable": self.unusable_products},
            "orders": {
                "expected": [asdict(order) for order in self.orders],
                "unusable": self.unusable_orders,
                "filtered": self.filtered_orders,
            },
            "revenue": str(self.revenue),
        }


def canonical(email: str | None) -> str | None:
    """An e-mail trimmed, in NFC and lower case; None where no mail can reach it."""
    text = unicodedata.normalize("NFC", (email or "").strip()).lower()
    if not _EMAIL.fullmatch(text) or ".." in text or text.startswith(".") or ".@" in text:
        return None
    return text


def truth(shop: Shop, contract: Contract) -> Truth:
    """The truth about a shop, as it stands; the caller holds the shop's lock.

    An order in a status that isn't sent is filtered, whatever else is wrong with it.
    """
    emails = [canonical(customer.leaf("Email")) for customer in shop.customers.records.values()]
    barcodes = [
        item.get("Barcode") for product in shop.products.records.values() for item in product.rows("Items")
    ]
    skus = {code for code in barcodes if isinstance(code, str) and code.strip()}
    orders: list[ExpectedOrder] = []
    unusable = filtered = 0
    for root in shop.orders.records.values():
        if root.parent is not None:
            continue
        is_replacement = root.leaf("ReplacementOf") is not None and not contract.sends_replacements
        if root.leaf("Status") not in contract.paid_statuses or is_replacement:
            filtered += 1
            continue
        email = canonical(root.leaf("Email"))
        if email is None:
            unusable += 1
            continue
        amounts = (member.amount(contract.dropped_line_statuses) for member in shop.tree(root))
        orders.append(ExpectedOrder(str(root.id), email, str(cents(sum(amounts, Decimal(0))))))
    registered = {email for email in emails if email}
    return Truth(
        contacts=sorted(registered | {order.email for order in orders}),
        left_contacts=sorted({email for each in shop.left_emails if (email := canonical(each))} - registered),
        unusable_contacts=emails.count(None),
        products=sorted(skus),
        unusable_products=sum(1 for code in barcodes if code not in skus),
        orders=orders,
        unusable_orders=unusable,
        filtered_orders=filtered,
    )
