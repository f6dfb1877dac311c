"""A shop of any size in little memory: a generated one over and over, each copy made when it is asked for.

Every copy has its own ids, e-mails and barcodes, and its own slot in the shop's history. Only what is edited is kept.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy as duplicate
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic
from zoneinfo import ZoneInfo

from typing_extensions import override

from sandbox.estar.generate import DEFAULT_NOW, generate
from sandbox.estar.generate_dice import HISTORY
from sandbox.estar.state import Line, Order, R, Record, Shop, Table, TimeIndex, stamp
from sandbox.estar.truth import canonical

TEMPLATE = 200
"""Customers of the shop that is repeated: with so many, every kind of dirt is there."""


@dataclass(frozen=True, slots=True)
class _Slots:
    """The shop's history, cut into one slot for each copy; inside its slot a copy keeps the order of its times."""

    begin: datetime
    copies: int

    def moved(self, when: datetime, copy: int) -> datetime:
        """A time of the template in a copy's slot, to the millisecond."""
        inside = (HISTORY * copy + (when - self.begin)) / self.copies
        return self.begin + timedelta(milliseconds=inside // timedelta(milliseconds=1))

    def touching(self, start: datetime, end: datetime) -> range:
        """The copies that may have a time in between, and perhaps a neighbour more."""
        slot = HISTORY / self.copies
        first, last = (start - self.begin) // slot, (end - self.begin) // slot
        return range(max(0, first - 1), max(0, min(self.copies, last + 2)))


class _Index(TimeIndex):
    """The times of all copies, and those of records that were added or changed."""

    def __init__(self, template: Sequence[tuple[datetime, int]], stride: int, slots: _Slots) -> None:
        super().__init__()
        self._template = sorted(template)
        self._stride = stride
        self._slots = slots

    @override
    def between(self, start: datetime, end: datetime) -> list[int]:
        found = [
            (when, record_id)
            for copy in self._slots.touching(start, end)
            for when, record_id in self._copied(copy, start, end)
        ]
        found += [(self._times[record_id], record_id) for record_id in super().between(start, end)]
        return [record_id for _, record_id in sorted(found)]

    def _copied(self, copy: int, start: datetime, end: datetime) -> Iterator[tuple[datetime, int]]:
        for time, template_id in self._template:
            when, record_id = self._slots.moved(time, copy), template_id + copy * self._stride
            if start <= when < end and record_id not in self._times:
                yield when, record_id


class _Records(Mapping[int, R], Generic[R]):
    """All records by id: the kept ones, and copies made at the moment."""

    def __init__(
        self,
        own: Mapping[int, R],
        added: Sequence[int],
        template: Table[R],
        copies: int,
        stride: int,
        make: Callable[[R, int], R],
    ) -> None:
        self._own = own
        self._added = added
        self._template = template.records
        self._ids = sorted(template.records)
        self._copies = copies
        self._stride = stride
        self._make = make

    @override
    def __getitem__(self, record_id: int) -> R:
        if (kept := self._own.get(record_id)) is not None:
            return kept
        copy, template_id = divmod(record_id, self._stride)
        if not 0 <= copy < self._copies:
            raise KeyError(record_id)
        return self._make(self._template[template_id], copy)

    @override
    def __contains__(self, record_id: object) -> bool:
        return record_id in self._own or self.is_copy(record_id)

    @override
    def __iter__(self) -> Iterator[int]:
        for number in range(self.copied):
            yield self.copy_id(number)
        yield from self._added

    @override
    def __len__(self) -> int:
        return self.copied + len(self._added)

    @property
    def copied(self) -> int:
        """How many copies there are."""
        return self._copies * len(self._ids)

    def copy_id(self, number: int) -> int:
        """The id of the so-many-th copy."""
        copy, place = divmod(number, len(self._ids))
        return self._ids[place] + copy * self._stride

    def is_copy(self, record_id: object) -> bool:
        """Whether it is the id of a copy."""
        if not isinstance(record_id, int):
            return False
        copy, template_id = divmod(record_id, self._stride)
        return 0 <= copy < self._copies and template_id in self._template


class CopiedTable(Table[R]):
    """A table whose records are copies of a template's, until they are changed.

    Args:
        template: what is repeated.
        copies: how often.
        make: a copy of a record, with its number; it shares nothing that an edit changes.
        begin: of the shop's history.
    """

    def __init__(self, template: Table[R], copies: int, make: Callable[[R, int], R], begin: datetime) -> None:
        super().__init__()
        stride, slots = stride_of(template), _Slots(begin, copies)
        rows = template.records.values()
        self._copied = _Records(self._own, self._added, template, copies, stride, make)
        self.records = self._copied
        self.created = _Index([(each.created, each.id) for each in rows], stride, slots)
        self.modified = _Index([(each.modified, each.id) for each in rows], stride, slots)
        self._last = self._copied.copy_id(self._copied.copied - 1)

    @override
    def hold(self, record: R) -> R:
        if record.id not in self._own:
            self._own[record.id] = record
        return self._own[record.id]

    @override
    def touch(self, record: R, when: datetime) -> None:
        super().touch(self.hold(record), when)

    @property
    @override
    def is_large(self) -> bool:
        return True  # each look makes a copy

    @override
    def pick(self, dice: random.Random) -> R:
        number = dice.randrange(self._copied.copied + len(self._added))
        copied = number < self._copied.copied
        return self.records[
            self._copied.copy_id(number) if copied else self._added[number - self._copied.copied]
        ]


def stride_of(template: Table[R]) -> int:
    """How far a record's id is from that of its next copy: a power of ten, so that people see which copy it is."""
    return int(10 ** len(str(max(template.records))))


def repeated_shop(
    customers: int, products: int, orders: int, seed: int, zone: ZoneInfo, now: datetime = DEFAULT_NOW
) -> Shop:
    """A shop with at least so many of each, in whole copies.

    Args:
        customers: how many there are; as the others, at least 1.
        products: the same.
        orders: the same, children of split ones included.
        seed: of the template.
        zone: the shop's time zone.
        now: the end of its history, naive, in its zone.
    """
    template = generate(TEMPLATE, seed, zone, now)
    begin = now - HISTORY
    sizes = (
        (template.customers, customers),
        (template.products, products),
        (template.orders, orders),
    )
    copies = [-(-wanted // len(table.records)) for table, wanted in sizes]
    maker = _Maker(template, begin, *copies)
    shop = Shop(zone)
    shop.customers = CopiedTable(template.customers, copies[0], maker.customer, begin)
    shop.products = CopiedTable(template.products, copies[1], maker.product, begin)
    shop.orders = CopiedTable(template.orders, copies[2], maker.order, begin)
    return shop


class _Maker:
    """Makes copies. An order's customer and products are of a copy that exists."""

    def __init__(self, template: Shop, begin: datetime, customers: int, products: int, orders: int) -> None:
        self._customers, self._products = customers, products
        self._slots = [_Slots(begin, copies) for copies in (customers, products, orders)]
        self._strides = [
            stride_of(template.customers),
            stride_of(template.products),
            stride_of(template.orders),
        ]

    def customer(self, record: Record, copy: int) -> Record:
        made = self._copy(record, copy, 0)
        if "Email" in made.body:
            made.body["Email"] = _email(record.leaf("Email"), copy)
        return made

    def product(self, record: Record, copy: int) -> Record:
        made = self._copy(record, copy, 1)
        made.body["Items"] = deepcopy(record.body["Items"])  # an edit changes them
        for item in made.rows("Items"):
            code = item.get("Barcode")
            item["Barcode"] = _barcode(code, copy) if isinstance(code, str) else None
        return made

    def order(self, record: Order, copy: int) -> Order:
        made = self._copy(record, copy, 2)
        made.body["OrderDate"] = stamp(made.created)
        offset = made.id - record.id
        made.parent = None if record.parent is None else record.parent + offset
        made.children = [child + offset for child in record.children]
        if record.parent is not None:
            made.body["ParentOrderID"] = str(made.parent)
        shopper = copy % self._customers
        guest = (owner := record.leaf("Customer")) in {None, "0"}
        if not guest:
            made.body["Customer"] = str(int(owner or 0) + shopper * self._strides[0])
        made.body["Email"] = _email(record.leaf("Email"), copy if guest else shopper)
        made.lines = [self._line(line, made.id, copy % self._products) for line in record.lines]
        made.body["Items"] = made.lines
        return made

    def _line(self, line: Line, order_id: int, copy: int) -> Line:
        made = duplicate(line)
        made.order_id = order_id
        made.product_id += copy * self._strides[1]
        made.barcode = _barcode(line.barcode, copy)
        return made

    def _copy(self, record: R, copy: int, table: int) -> R:
        made = duplicate(record)
        made.id = record.id + copy * self._strides[table]
        made.created = self._slots[table].moved(record.created, copy)
        made.modified = self._slots[table].moved(record.modified, copy)
        made.body = record.body.copy()
        made.body["ID"] = str(made.id)
        made.body["DateModified"] = stamp(made.modified)
        if made.body.get("DateCreated") == stamp(record.created):
            made.body["DateCreated"] = stamp(made.created)
        return made


def _email(email: str | None, copy: int) -> str | None:
    """A copy's own e-mail, padded as the template's; what can't be mailed stays as it is."""
    if not copy or email is None or canonical(email) is None:
        return email
    text = email.lstrip()
    return f"{email[: len(email) - len(text)]}c{copy}.{text}"


def _barcode(code: str, copy: int) -> str:
    return f"{code}c{copy}" if copy and code.strip() else code
