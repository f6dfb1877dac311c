"""A shop in memory: customers, products, orders and events, found by id and by time.

Times are naive and in the shop's zone, as the database behind eStar keeps them: in the hour that repeats when
summer time ends, two instants have one time, here as there.

Nothing in this module locks; who shares a `Shop` between threads holds `Shop.lock`.
"""

import random
import threading
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Generic, TypeAlias, TypeVar
from zoneinfo import ZoneInfo

_CENT = Decimal("0.01")
_MANY = 10_000


@dataclass(slots=True)
class Line:
    """One line of an order, slim because a shop has hundreds of thousands; prices are text, kept exactly."""

    id: int
    order_id: int
    product_id: int
    barcode: str
    title: str | None
    quantity: int
    price: str
    discount: str = "0"
    status: str = "Ordered"
    style: str | None = ""
    packing: str | None = ""


Node: TypeAlias = "str | dict[str, Node] | list[tuple[str, Node]] | list[Line] | None"
"""An element: None is xsi:nil, text, children by name, or repeated children with their names."""
Body: TypeAlias = dict[str, Node]


def repeat(tag: str, nodes: Iterable[Node]) -> Node:
    """Repeated children of one name."""
    return [(tag, node) for node in nodes]


def repeat_bodies(tag: str, bodies: Iterable[Body]) -> Node:
    """Repeated children of one name that have children themselves."""
    return repeat(tag, bodies)


@dataclass(slots=True)
class Record:
    """A customer or a product: what it is filed under, and its elements in published order."""

    id: int
    created: datetime
    modified: datetime
    body: Body

    def leaf(self, name: str) -> str | None:
        """The text of a direct child; None where it is absent, nil or not text."""
        node = self.body.get(name)
        return node if isinstance(node, str) else None

    def rows(self, name: str) -> list[Body]:
        """The repeated children inside a direct child, such as a product's `Items`."""
        node = self.body.get(name)
        if not isinstance(node, list):
            return []
        return [row[1] for row in node if isinstance(row, tuple) and isinstance(row[1], dict)]


@dataclass(slots=True)
class Order(Record):
    """An order of a split tree. `body["Items"]` is `lines`."""

    lines: list[Line]
    parent: int | None = None
    children: list[int] = field(default_factory=list)

    def amount(self, dropped: frozenset[str]) -> Decimal:
        """Its live lines, with freight, less the discount; not rounded.

        Args:
            dropped: line statuses that don't count.
        """
        lines = sum(
            (
                line.quantity * (Decimal(line.price) - Decimal(line.discount))
                for line in self.lines
                if line.status not in dropped
            ),
            Decimal(0),
        )
        return lines + Decimal(self.leaf("FreightTotal") or 0) - Decimal(self.leaf("DiscountTotal") or 0)


def cents(amount: Decimal) -> Decimal:
    """An amount with two decimals, half to even."""
    return amount.quantize(_CENT, ROUND_HALF_EVEN)


@dataclass(frozen=True, slots=True)
class Event:
    """One notification, as a webhook carries it."""

    subscriber: int
    sequence: int
    type: str
    message: dict[str, str]


class TimeIndex:
    """Ids by a time that may change; put in order when first asked, and kept so from then on."""

    def __init__(self) -> None:
        self._times: dict[int, datetime] = {}
        self._ordered: list[tuple[datetime, int]] | None = None

    def put(self, record_id: int, when: datetime) -> None:
        """File an id under a time, instead of the one it had."""
        before = self._times.get(record_id)
        self._times[record_id] = when
        if self._ordered is not None:
            if before is not None:
                del self._ordered[bisect_left(self._ordered, (before, record_id))]
            insort(self._ordered, (when, record_id))

    def between(self, start: datetime, end: datetime) -> list[int]:
        """Ids with start <= time < end, by time."""
        if self._ordered is None:
            self._ordered = sorted((when, record_id) for record_id, when in self._times.items())
        low, high = bisect_left(self._ordered, (start, -1)), bisect_left(self._ordered, (end, -1))
        return [record_id for _, record_id in self._ordered[low:high]]


R = TypeVar("R", bound=Record)


class Table(Generic[R]):
    """Records of one kind."""

    def __init__(self) -> None:
        self._own: dict[int, R] = {}
        self._added: list[int] = []
        self._last = 0
        self.records: Mapping[int, R] = self._own
        self.created = TimeIndex()
        self.modified = TimeIndex()

    def add(self, record: R) -> None:
        """File a new record."""
        self._own[record.id] = record
        self._added.append(record.id)
        self._last = max(self._last, record.id)
        self.created.put(record.id, record.created)
        self.modified.put(record.id, record.modified)

    def get(self, ids: Iterable[int]) -> list[R]:
        """The records that exist, each once, in the order asked."""
        return [self.records[i] for i in dict.fromkeys(ids) if i in self.records]

    def touch(self, record: R, when: datetime) -> None:
        """Date a change."""
        self.modified.put(record.id, when)
        record.modified = when
        record.body["DateModified"] = stamp(when)

    def lose(self, record_id: int) -> None:
        """Lose a record: it is listed still, and can't be retrieved."""
        del self._own[record_id]

    def hold(self, record: R) -> R:
        """The record, which is about to be changed: from now on every reader finds this very object."""
        return record

    @property
    def is_large(self) -> bool:
        """Whether looking at every record takes long."""
        return len(self._added) > _MANY

    def pick(self, dice: random.Random) -> R:
        """Any record; there must be one."""
        return self.records[dice.choice(self._added)]

    def next_id(self) -> int:
        """An id that no record has."""
        return self._last + 1


class Shop:
    """Everything that the shop knows."""

    def __init__(self, zone: ZoneInfo, subscriber: int = 1) -> None:
        self.zone = zone
        self.lock = threading.RLock()
        self.customers = Table[Record]()
        self.products = Table[Record]()
        self.orders = Table[Order]()
        self.events: list[Event] = []
        self.left_emails: set[str] = set()
        """E-mails as they were, of customers who have another one by now."""
        self._subscriber = subscriber
        self._lines = 0

    def add_order(self, order: Order) -> None:
        """File an order; its parent must be there already."""
        self.orders.add(order)
        if order.parent is not None:
            self.orders.records[order.parent].children.append(order.id)

    def tree(self, order: Order) -> list[Order]:
        """The whole split tree of any of its orders: the root first, then the others by id."""
        root = order
        while root.parent is not None:
            root = self.orders.records[root.parent]
        found, waiting = [], [root]
        while waiting:
            member = waiting.pop()
            found.append(member)
            waiting.extend(self.orders.get(member.children))
        return [root, *sorted((member for member in found if member is not root), key=lambda o: o.id)]

    def line_id(self) -> int:
        """A new line's id."""
        self._lines += 1
        return self._lines

    def notify(self, kind: str, **message: int) -> Event:
        """Append an event; ids in a message are strings, as the published sample has them."""
        texts = {name: str(value) for name, value in message.items()}
        event = Event(self._subscriber, len(self.events) + 1, kind, texts)
        self.events.append(event)
        return event

    def local(self, instant: datetime) -> datetime:
        """An aware instant as a naive time of the shop."""
        return instant.astimezone(self.zone).replace(tzinfo=None)


def stamp(when: datetime) -> str:
    """A naive time as .NET writes one of no stated kind: no offset, and no trailing zeros in the fraction."""
    text = when.isoformat()
    return text.rstrip("0") if when.microsecond else text
