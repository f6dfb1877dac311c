"""Writes docs/mapping.md from the schemas, the mapping and the examples; `--check` only says whether it is up to date.

Types and rules are the schemas' own words. Where a field comes from, and what becomes of it where the shop has nothing
there, is found by asking the mapping itself with the examples in schemas/avro/examples.
"""

import copy
import json
import re
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_core.mapping.explain import Explained, explain
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.profile import load_profile

PAGE = Path(__file__).parents[1] / "docs" / "mapping.md"
PROFILE = """
websites:
  "1": {currency: NZD, product_url: "https://shop.example/p/{id}", image_base: "https://shop.example"}
"""
_INDEX = re.compile(r"\[[0-9]+\]")
_NAMES = {Entity.CONTACTS: "contact", Entity.PRODUCTS: "product", Entity.ORDERS: "order"}
# They choose between customers or lines, of which an example has one.
_CHOOSES = {
    Entity.CONTACTS: {"customers[0].DateModified", "customers[0].Addresses[0].Type", "customers[0].Phone"},
    Entity.PRODUCTS: {"product.Price", "product.SalePrice", "product.Supplier"},
    Entity.ORDERS: {"orders[0].Items[0].StatusCode"},
}
_HEAD = """# What becomes of each field

Written by `make docs` from the schemas, the mapping and the examples in `schemas/avro/examples`; a test fails where it
is out of date. It shows the default profile; `estarsync config explain` shows the same for your profile and one of your
records.

- *Source* is the place in the raw event. `[]` stands for each entry of a list. Several places are all looked at.
- *Nothing there* is what happens where the shop leaves every source out: `null` clears the field in Dotdigital,
  `omitted` leaves what Dotdigital has, a dead letter stops this record alone and names the field; a value is what the
  example's record sends then.
- A value that can't be read is never guessed: an optional field is omitted and counted
  (`estarsync_transformer_dropped_fields_total`), a required one makes the record a dead letter.
- Text is trimmed, composed (NFC), freed of what nobody can see, and cut at 1,000 characters. Money is exact until it
  becomes a double at the very end.
"""


def example(entity: Entity) -> dict[str, Any]:
    """The key, the raw value and the payload of an entity's example."""
    path = files("estarsync_schemas").joinpath("avro", "examples", f"dotdigital.{_NAMES[entity]}.v1.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def page() -> str:
    """The page, whole."""
    return _HEAD + "".join(_section(entity) for entity in Entity)


def _section(entity: Entity) -> str:
    path = files("estarsync_schemas").joinpath("avro", f"dotdigital.{_NAMES[entity]}.v1.avsc")
    schema = json.loads(path.read_text(encoding="utf-8"))
    given = example(entity)
    raw = json.dumps(given["raw"]).encode()
    found = {
        field.name: field
        for field in explain(load_profile(PROFILE, "page"), entity, given["key"], raw).fields
    }
    rows = [
        f"| `{name}` | {kind} | {_sources(found.get(_first(entity, name)))} | {doc}"
        f" | {_nothing(entity, given, found.get(_first(entity, name)))} |"
        for name, kind, doc in _fields(schema, "")
    ]
    unread = ", ".join(f"`{path}`" for path in not_sent(entity))
    head = "| field | type | source | rule | nothing there |\n|---|---|---|---|---|\n"
    return (
        f"\n## {entity.value.capitalize()}\n\n{schema['doc']}\n\n{head}"
        + "\n".join(rows)
        + f"\n\nNot sent: {unread}.\n"
    )


def not_sent(entity: Entity) -> list[str]:
    """The places of the example that no field comes from and that decide nothing."""
    given = example(entity)
    found = explain(load_profile(PROFILE, "page"), entity, given["key"], json.dumps(given["raw"]).encode())
    used = {leaf.path for field in found.fields for leaf in field.sources} | {
        leaf.path for leaf in found.deciding
    }
    used |= _CHOOSES[entity]
    return list(
        dict.fromkeys(_INDEX.sub("[]", path) for path in _paths(given["raw"], "") if path not in used)
    )


def _paths(tree: Any, before: str) -> Iterator[str]:  # noqa: ANN401 - any JSON
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if children is None:
        yield before.removeprefix(".")
        return
    for name, child in children:
        yield from _paths(child, f"{before}[{name}]" if isinstance(tree, list) else f"{before}.{name}")


def _first(entity: Entity, name: str) -> str:
    """A field's name as `explain` writes it for the first line."""
    return name.rpartition(".")[2] if entity is Entity.CONTACTS else name.replace("[]", "[0]")


def _fields(schema: dict[str, Any], before: str) -> Iterator[tuple[str, str, str]]:
    for field in schema["fields"]:
        name, kind = f"{before}{field['name']}", field["type"]
        inner = kind[1] if isinstance(kind, list) else kind
        if isinstance(inner, dict) and inner["type"] == "record":
            yield from _fields(inner, f"{name}.")
        elif isinstance(inner, dict) and inner["type"] == "array" and isinstance(inner["items"], dict):
            yield from _fields(inner["items"], f"{name}[].")
        else:
            yield name, _type(inner) + (", may be null" if isinstance(kind, list) else ""), field["doc"]


def _type(kind: Any) -> str:  # noqa: ANN401 - a schema is any JSON
    if isinstance(kind, str):
        return kind
    return f"list of {kind['items']}" if kind["type"] == "array" else str(kind["logicalType"])


def _sources(field: Explained | None) -> str:
    if field is None or not field.sources:
        return "the profile" if field is not None and field.value is not None else "-"
    paths = [_INDEX.sub("[]", leaf.path) for leaf in field.sources]
    return ", ".join(f"`{path}`" for path in dict.fromkeys(paths))


def _nothing(entity: Entity, given: dict[str, Any], field: Explained | None) -> str:
    """What the mapping makes of the example without any of the field's sources."""
    if field is None or not field.sources:
        return "-"
    tree = copy.deepcopy(given["raw"])
    for leaf in field.sources:
        _empty(tree, leaf.path)
    mapper = Mapper(load_profile(PROFILE, "page"))
    value = json.dumps(tree).encode()
    try:
        document = mapper.record(entity, given["key"], value).document
    except InvalidRecord as invalid:
        return f"dead letter, `{invalid}`"
    if document is None:
        return "tombstone"
    now = {
        each.name: each for each in explain(load_profile(PROFILE, "page"), entity, given["key"], value).fields
    }
    after = now.get(field.name)
    if after is None:
        return "left out"
    return after.state if after.state != "sent" else f"`{after.value}`"


def _empty(tree: Any, path: str) -> None:  # noqa: ANN401 - any JSON
    steps = [
        int(step) if step.isdigit() else step for step in path.replace("[", ".").replace("]", "").split(".")
    ]
    for step in steps[:-1]:
        tree = tree[step]
    tree[steps[-1]] = None


if __name__ == "__main__":
    text = page()
    if "--check" not in sys.argv:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        sys.exit("docs/mapping.md is out of date: run `make docs`")
