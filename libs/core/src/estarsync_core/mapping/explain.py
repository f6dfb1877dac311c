"""Where each field of a payload comes from, found by asking the mapping itself.

A leaf of the raw record is taken away, or changed, and the record mapped again: the fields that are then different
come from that leaf. So the explanation can't disagree with what is sent, and the mapping carries no trace of it.
"""

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.profile import FieldSource, TenantProfile

Tree: TypeAlias = Any
"""Any JSON value."""
Steps: TypeAlias = tuple[str | int, ...]
Flat: TypeAlias = dict[str, tuple[str, object]]
MOST_LEAVES = 600
"""Of a very long record only so many leaves are tried."""

_DECIDES = (
    5  # a leaf that so many fields hang on is no source of theirs: it says which part of the record counts
)
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_DATE = re.compile(r"([0-9]{3})([0-9])(-.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A place in the raw record and the text that the shop has there; None for `xsi:nil`."""

    path: str
    text: str | None


@dataclass(frozen=True, slots=True)
class Explained:
    """One field of the payload.

    Attributes:
        name: the field, as a path (`BILLING_CITY`, `products[0].price`).
        state: `sent`; `null`, which clears the field; `omitted`, which leaves what Dotdigital has.
        value: what is sent.
        sources: the leaves it comes from.
        rule: what the profile says of it, where the profile chooses.
        codes: what was wrong with the shop's value.
    """

    name: str
    state: str
    value: object
    sources: tuple[Leaf, ...]
    rule: str | None
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What becomes of one raw record.

    Attributes:
        entity: which.
        key: its key.
        outcome: `payload`, `tombstone` or `dead_letter`.
        problem: the field and the code of what is wrong with a dead letter; the reason of a tombstone.
        fields: of a payload.
        deciding: the leaves that say which part of the record counts (the winner, the billing address).
        dropped: the field and the code of every value that does not travel as the shop wrote it.
        complete: false where the record is so long that not every leaf was tried.
    """

    entity: Entity
    key: str
    outcome: str
    problem: str | None
    fields: tuple[Explained, ...]
    deciding: tuple[Leaf, ...]
    dropped: tuple[tuple[str, str], ...]
    complete: bool


def explain(profile: TenantProfile, entity: Entity, key: str, value: bytes) -> Explanation:
    """Map a raw record and say where everything comes from.

    Raises:
        ConfigurationError: the profile can't be mapped by.
    """
    mapper = Mapper(profile)
    try:
        mapped = mapper.record(entity, key, value)
    except InvalidRecord as invalid:
        return Explanation(entity, key, "dead_letter", str(invalid), (), (), (), complete=True)
    if mapped.document is None:
        return Explanation(entity, key, "tombstone", mapped.reason, (), (), (), complete=True)
    fields = _flat(entity, mapped.document)
    sources: dict[str, list[Leaf]] = {name: [] for name in fields}
    deciding: list[Leaf] = []
    tree = msgspec.json.decode(value)
    leaves = list(_leaves(tree, ()))
    for steps in leaves[:MOST_LEAVES]:
        leaf = Leaf(_path(steps), _at(tree, steps))
        touched = _touched(mapper, entity, key, tree, steps, fields)
        if len(touched) >= _DECIDES:
            deciding.append(leaf)
            continue
        for name in touched:
            sources[name].append(leaf)
    explained = tuple(
        Explained(
            name,
            state,
            sent,
            tuple(sources[name]),
            _rule(profile, entity, name),
            tuple(code for field, code in mapped.dropped if field == name),
        )
        for name, (state, sent) in fields.items()
    )
    complete = len(leaves) <= MOST_LEAVES
    return Explanation(entity, key, "payload", None, explained, tuple(deciding), mapped.dropped, complete)


def _touched(mapper: Mapper, entity: Entity, key: str, tree: Tree, steps: Steps, fields: Flat) -> list[str]:
    """The fields that a leaf has a say in."""
    touched: dict[str, None] = {}
    for changed in _changed(_at(tree, steps)):
        other = copy.deepcopy(tree)
        _put(other, steps, changed)
        try:
            document = mapper.record(entity, key, msgspec.json.encode(other)).document
        except InvalidRecord as invalid:
            touched.update(dict.fromkeys(name for name in fields if _is_of(name, invalid.field)))
            continue
        if document is None:
            touched.update(dict.fromkeys(name for name in fields if name == "order_status"))
            continue
        now = _flat(entity, document)
        touched.update(dict.fromkeys(name for name, value in fields.items() if now.get(name, _GONE) != value))
    return list(touched)


_GONE = object()


def _is_of(name: str, field: str) -> bool:
    """Whether an error's field is this one: `lines[3].quantity` is `products[3].qty`'s trouble."""
    place = field.replace("lines[", "products[").replace(".quantity", ".qty").replace(".unit_price", ".price")
    return name in {place, place.removeprefix("orders[0].")}


def _changed(text: str | None) -> Iterator[str | None]:
    """Other texts of the same kind, and none."""
    yield None
    plain = (text or "").strip()
    if _NUMBER.fullmatch(plain):
        whole, dot, rest = plain.partition(".")
        yield f"{int(whole) + 1}{dot}{rest}"
    elif date := _DATE.fullmatch(plain):
        yield f"{date[1]}{'8' if date[2] == '9' else int(date[2]) + 1}{date[3]}"
    else:
        yield f"{plain}x"
        yield "1"


def _flat(entity: Entity, document: dict[str, Any]) -> Flat:
    """The state and the value of each leaf of the document; a contact's data fields by their names alone."""
    omitted = frozenset[str](document.get("omitted", ()))
    flat: Flat = {}
    waiting: list[tuple[str, object]] = [
        (name, value) for name, value in document.items() if name != "omitted"
    ]
    while waiting:
        path, value = waiting.pop(0)
        if isinstance(value, dict):
            start = "" if entity is Entity.CONTACTS else f"{path}."
            waiting[:0] = [(f"{start}{name}", child) for name, child in value.items()]
        elif isinstance(value, list):
            waiting[:0] = [(f"{path}[{index}]", child) for index, child in enumerate(value)]
        else:
            state = "omitted" if path in omitted else "null" if value is None else "sent"
            flat[path] = state, value
    return flat


def _leaves(tree: Tree, steps: Steps) -> Iterator[Steps]:
    if isinstance(tree, dict):
        for name, child in tree.items():
            yield from _leaves(child, (*steps, name))
    elif isinstance(tree, list):
        for index, child in enumerate(tree):
            yield from _leaves(child, (*steps, index))
    else:
        yield steps


def _at(tree: Tree, steps: Steps) -> Tree:
    for step in steps:
        tree = tree[step]
    return tree


def _put(tree: Tree, steps: Steps, text: str | None) -> None:
    _at(tree, steps[:-1])[steps[-1]] = text


def _path(steps: Steps) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def _rule(profile: TenantProfile, entity: Entity, name: str) -> str | None:
    """What the profile says of a contact's field."""
    if entity is not Entity.CONTACTS or name not in profile.contacts.fields:
        return None
    source: FieldSource | None = dict(profile.contacts.fields).get(name)
    if source is None:
        return "not mapped"
    given = source.model_dump(exclude_defaults=True)
    return ", ".join(
        f"{word} {', '.join(value) if isinstance(value, tuple) else 'of its own' if isinstance(value, dict) else value}"
        for word, value in given.items()
    )
