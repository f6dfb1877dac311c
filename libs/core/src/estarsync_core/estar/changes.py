"""What a page of fresh records means, against what was published before: pure, so that it can be tested whole.

For each source record the extractor remembers one row: the key that it was published under, and the hash of what
was published there. All rows of a key hold the same hash.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from estarsync_core.entities import Reason
from estarsync_core.estar.content import DropList, canonical_json, content_hash
from estarsync_core.estar.grouping import Group, Grouped, id_order

TOO_LARGE = "too_large"
ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Row:
    """What is remembered of a source record; without a key, `hash` is the code of why it could not be used.

    `who` holds the hashes of the shoppers' e-mails (orders only), so that an erasure finds their orders.
    """

    key: str | None
    hash: str
    who: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """What goes to the raw topic: a value, or a tombstone with its reason."""

    key: str
    value: bytes | None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What one page publishes and remembers.

    `rows` holds only what differs from before, None for a row to forget; `dead` maps a source id to the code of
    why it can't be published; `unchanged` counts the keys that were read and not published again, `withheld` the
    records of a shopper who is to be forgotten.
    """

    events: list[Event] = field(default_factory=list)
    rows: dict[str, Row | None] = field(default_factory=dict)
    dead: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0
    withheld: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """How an entity's changes are published.

    `left` is the reason of the tombstone for a key that all its records have left, None where keys are removed
    by other means; `renames` says whether a group tells which key its record came from.
    """

    drop: DropList
    max_bytes: int
    left: Reason | None = None
    renames: bool = False


def touched_keys(grouped: Grouped, before: Mapping[str, Row]) -> set[str]:
    """The keys that a page has to do with: those of its groups, and those that its records had before."""
    fresh = grouped.members
    old = {row.key for identity, row in before.items() if identity in fresh and row.key is not None}
    return old | grouped.keys


def changes(
    grouped: Grouped,
    gone: Collection[str],
    before: Mapping[str, Row],
    rules: Rules,
    *,
    force: bool = False,
    redriven: bool = False,
) -> Changes:
    """What to publish and to remember.

    Args:
        grouped: fresh records: for each touched key all that the shop still has.
        gone: source ids that were published before and that the shop no longer returns.
        before: the rows of all fresh and gone ids, and of all other ids under the touched keys.
        rules: the entity's.
        force: publish every group, changed or not.
        redriven: tell again of records that still can't be used; without, a record becomes a dead letter once.
    """
    result = Changes()
    by_key: dict[str | None, dict[str, Row]] = defaultdict(dict)
    for identity, row in before.items():
        by_key[row.key][identity] = row
    moved = grouped.members | set(gone)
    unchanged = 0
    for group in grouped.groups:
        content = rules.drop.strip_record(group.value)
        value = canonical_json(content)
        now = Row(group.key, content_hash(value), group.who)
        known = by_key[group.key]
        # A record that can't be read at the moment keeps its key, and goes along with the others' hash.
        members = [*group.members, *(known.keys() - moved)]
        result.rows.update({identity: now for identity in members if before.get(identity) != now})
        if not force and any(row.hash == now.hash for row in known.values()):
            unchanged += 1
            continue
        origin = _origin(group, before) if rules.renames else None
        if origin is not None:
            # No part of the hash: read again, the same records must count as unchanged.
            value = canonical_json({**content, "renamed_from": origin})
        if len(value) > rules.max_bytes:
            result.dead[group.members[0]] = TOO_LARGE
        else:
            result.events.append(Event(group.key, value))
    for identity, code in grouped.unusable.items():
        if redriven or before.get(identity) != Row(None, code):
            result.rows[identity] = Row(None, code)
            result.dead[identity] = code
    result.rows.update({identity: None for identity in gone if identity in before})
    result.events.extend(_left(grouped, gone, before, rules.left))
    withheld = 0
    for group in grouped.withheld:
        known = by_key[group.key]
        erased = erasure([group.key] if known else [], {*group.members, *known})
        result.events.extend(erased.events)
        result.rows.update({i: row for i, row in erased.rows.items() if before.get(i) != row})
        withheld += len(group.members)
    return Changes(result.events, result.rows, result.dead, unchanged, withheld)


def erasure(keys: Iterable[str], members: Iterable[str]) -> Changes:
    """What takes away keys that are to be forgotten, and keeps nothing of their records but their ids."""
    events = [Event(key, None, Reason.ERASED) for key in keys]
    return Changes(events, {identity: Row(None, ERASED) for identity in members})


def _origin(group: Group, before: Mapping[str, Row]) -> str | None:
    """The key that the group's record with the highest id among those from elsewhere had before."""
    for identity in sorted(group.members, key=id_order, reverse=True):
        row = before.get(identity)
        if row is not None and row.key is not None and row.key != group.key:
            return row.key
    return None


def _left(
    grouped: Grouped, gone: Collection[str], before: Mapping[str, Row], reason: Reason | None
) -> list[Event]:
    """Tombstones for the keys that every record has left."""
    if reason is None:
        return []
    fresh = grouped.members
    left = {row.key for identity, row in before.items() if identity in fresh or identity in gone}
    held = {row.key for identity, row in before.items() if identity not in fresh and identity not in gone}
    empty = left - held - grouped.keys
    return [Event(key, None, reason) for key in sorted(key for key in empty if key is not None)]
