"""From the shop's records to what travels together under one key.

Customers that share an e-mail are one group, a product is split into its items, orders that were split are one
tree. Grouping happens here and nowhere else, so that raw and typed events share their keys.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias
from zoneinfo import ZoneInfo

from estarsync_core.control import Blocked, email_hash
from estarsync_core.errors import InvalidRecord
from estarsync_core.estar.content import RawValue, Record, rows_of, text_of
from estarsync_core.keys import canonical_email

NO_BARCODE = "no_barcode"
PLACEHOLDER = "placeholder"
_NO_PARENT = {"", "0"}
_ItemRank: TypeAlias = tuple[bool, datetime, tuple[int, int, str], tuple[int, int, str]]


@dataclass(frozen=True, slots=True)
class Group:
    """What is published under one key.

    `value` is a raw value in the form of `CustomerGroup`, `ProductItem` or `OrderTree`; `members` are the ids of
    all source records that had a say in it: customers, orders, or `<product id>/<barcode>`. `who` is what the
    block-list knows an order's shoppers by: the hashes of their e-mails, in order.
    """

    key: str
    value: Record
    members: tuple[str, ...]
    who: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grouped:
    """The groups of some records, and the source records that have no key, with the reason's code.

    `withheld` are groups that must not be published, since somebody in them is to be forgotten.
    """

    groups: list[Group]
    unusable: dict[str, str]
    withheld: list[Group] = field(default_factory=list)

    @property
    def members(self) -> set[str]:
        """The ids of all source records, with and without a key."""
        groups = [*self.groups, *self.withheld]
        return {identity for group in groups for identity in group.members} | self.unusable.keys()

    @property
    def keys(self) -> set[str]:
        """The keys of all groups."""
        return {group.key for group in (*self.groups, *self.withheld)}


def id_order(identity: str) -> tuple[int, int, str]:
    """A sort key for the shop's ids: by number; an id that is none comes last."""
    if identity.isascii() and identity.isdecimal():
        return 0, int(identity), identity
    return 1, 0, identity


def group_customers(customers: Mapping[str, Record], placeholders: frozenset[str] = frozenset()) -> Grouped:
    """Customers by canonical e-mail, within a group by id; one whose e-mail is a placeholder has no key."""
    by_email: dict[str, list[str]] = defaultdict(list)
    unusable: dict[str, str] = {}
    for identity in sorted(customers, key=id_order):
        try:
            email = canonical_email(text_of(customers[identity], "Email"))
        except InvalidRecord as error:
            unusable[identity] = error.code
            continue
        if email in placeholders:
            unusable[identity] = PLACEHOLDER
        else:
            by_email[email].append(identity)
    groups = [
        Group(email, {"customers": [customers[identity] for identity in ids]}, tuple(ids))
        for email, ids in by_email.items()
    ]
    return Grouped(groups, unusable)


def group_items(
    products: Mapping[str, Record],
    enabled_statuses: frozenset[str],
    zone: ZoneInfo,
    now: datetime | None = None,
) -> Grouped:
    """Products split into items, by barcode.

    A product whose `AvailableFrom` is after `now` is marked `Embargoed`: what the time makes of a record is then a
    change of its content, which is published when the day has come.

    Where several items have one barcode, the one of an enabled product wins, then of the product modified (else
    created) last, then of the product with the higher id, then the item with the higher id. The members are the
    winner's first, then the others'.
    """
    by_barcode: dict[str, list[tuple[_ItemRank, str, Record]]] = defaultdict(list)
    unusable: dict[str, str] = {}
    for product_id in sorted(products, key=id_order):
        product = products[product_id]
        own: Record = {name: child for name, child in product.items() if name != "Items"}
        opens = _parsed(text_of(product, "AvailableFrom"), zone)
        if now is not None and opens is not None and opens > now.astimezone(zone).replace(tzinfo=None):
            own["Embargoed"] = "true"
        active = text_of(product, "Status") in enabled_statuses
        moment = _local_time(product, zone)
        for item in rows_of(product, "Items"):
            barcode = text_of(item, "Barcode")
            member = item_member(product_id, barcode)
            if not barcode:
                unusable[member] = NO_BARCODE
                continue
            rank = (active, moment, id_order(product_id), id_order(text_of(item, "ID")))
            by_barcode[barcode].append((rank, member, {"product": own, "item": item}))
    groups = []
    for barcode, items in by_barcode.items():
        items.sort(key=lambda ranked: ranked[0], reverse=True)
        members = dict.fromkeys(member for _, member, _ in items)
        groups.append(Group(barcode, items[0][2], tuple(members)))
    return Grouped(groups, unusable)


def item_member(product_id: str, barcode: str) -> str:
    """How an item is named among the source records."""
    return f"{product_id}/{barcode}"


def product_of(member: str) -> str:
    """The product's id in an item's name (ids of products hold no slash)."""
    return member.partition("/")[0]


def group_orders(orders: Mapping[str, Record]) -> Grouped:
    """Orders by the root of their split tree: the root first, the others by id."""
    by_root: dict[str, list[str]] = defaultdict(list)
    for identity in sorted(orders, key=id_order):
        by_root[_root(identity, orders)].append(identity)
    groups = []
    for root, ids in by_root.items():
        ids.sort(key=lambda identity: (identity != root, id_order(identity)))
        tree: list[RawValue] = [orders[identity] for identity in ids]
        shoppers = sorted({digest for identity in ids for digest in _shopper(orders[identity])})
        groups.append(Group(root, {"orders": tree}, tuple(ids), tuple(shoppers)))
    return Grouped(groups, {})


def withhold(grouped: Grouped, blocked: Blocked) -> Grouped:
    """The same with the groups put aside that hold a blocked e-mail, as their key or among their shoppers."""
    if not len(blocked):
        return grouped
    held = [group for group in grouped.groups if group.key in blocked or blocked.hashes & set(group.who)]
    free = [group for group in grouped.groups if group not in held] if held else grouped.groups
    return Grouped(free, grouped.unusable, held)


def may_have_relatives(order: Record, split_line_statuses: frozenset[str]) -> bool:
    """Whether an order is part of a tree as far as it says itself: it has a parent, or a line was split off."""
    if text_of(order, "ParentOrderID") not in _NO_PARENT:
        return True
    return any(text_of(line, "StatusCode") in split_line_statuses for line in rows_of(order, "Items"))


def _root(identity: str, orders: Mapping[str, Record]) -> str:
    above = [identity]
    while True:
        parent = text_of(orders[above[-1]], "ParentOrderID")
        if parent in above:
            # The shop contradicts itself; the lowest id of the ring is as good a root as any, and stable.
            return min(above[above.index(parent) :], key=id_order)
        if parent in _NO_PARENT or parent not in orders:
            return above[-1]
        above.append(parent)


def _shopper(order: Record) -> Iterator[str]:
    try:
        yield email_hash(text_of(order, "Email"))
    except InvalidRecord:
        return  # a guest without an e-mail is nobody whom one could forget


def _local_time(product: Record, zone: ZoneInfo) -> datetime:
    for name in ("DateModified", "DateCreated"):
        moment = _parsed(text_of(product, name), zone)
        if moment is not None:
            return moment
    return datetime.min  # noqa: DTZ901 - compared with other naive local times only


def _parsed(text: str, zone: ZoneInfo) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(zone).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return None
