"""`estarsync config explain`: what becomes of one record, and where each field comes from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text as PlainText

from estarsync_cli.connection import estar
from estarsync_cli.output import Json, console, masked, print_json
from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError
from estarsync_core.estar.content import DropList, Record, canonical_json, text_of
from estarsync_core.estar.grouping import (
    Grouped,
    group_customers,
    group_items,
    group_orders,
    may_have_relatives,
)
from estarsync_core.mapping.explain import Explained, Explanation
from estarsync_core.mapping.explain import explain as explained
from estarsync_core.profile import Operation, TenantProfile
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.estar.connect import EstarSettings
from estarsync_runtime.estar.decoder import Decoder
from estarsync_runtime.settings import load, read_profile

_EVENTS = {"customers": Entity.CONTACTS, "product": Entity.PRODUCTS, "orders": Entity.ORDERS}
_PERSONAL = ("billing_", "delivery_address", "email", "renamed_from")


def explain(
    *,
    record: Annotated[
        Path | None,
        typer.Option(help="A raw event, a record or a list of records in JSON, or a saved SOAP answer."),
    ] = None,
    identity: Annotated[
        str | None, typer.Option("--id", help="The shop's id: it is fetched, only read.")
    ] = None,
    entity: Annotated[Entity | None, typer.Option(help="What it is; a raw event says so itself.")] = None,
    profile: Annotated[
        Path | None, typer.Option(help="A profile in YAML; without it the one of TENANT_PROFILE.")
    ] = None,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Don't mask what may be a person's data.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what becomes of a record: each field, its value, and where in the record it comes from.

    A field is sent; null, which clears it in Dotdigital; or omitted, which leaves what is there. Exit code 1 where
    the record would be a dead letter.
    """
    if (record is None) == (identity is None):
        raise ConfigurationError(["give either --record FILE or --id N"])
    if record is not None:
        known = read_profile(profile or load(EstarSettings).tenant_profile)
        grouped, kind = _from_file(record, entity, known)
    else:
        known = read_profile(profile or load(EstarSettings).tenant_profile)
        if entity is None:
            raise ConfigurationError(["say what --id is the id of: --entity contacts, products or orders"])
        grouped, kind = _group(_fetched(str(identity), entity, known), entity, known), entity
    drop = DropList(known.records.drop)
    results = [
        explained(known, kind, group.key, canonical_json(drop.strip_record(group.value)))
        for group in grouped.groups
    ]
    if as_json:
        documents = [_document(each, show_values=show_values) for each in results]
        print_json({"records": documents, "unusable": grouped.unusable})
    for each in [] if as_json else results:
        _show(each, show_values=show_values)
    for member, code in {} if as_json else grouped.unusable.items():
        console().print(f"{kind} {member}: a dead letter of the extractor: {code}", markup=False)
    if not results or grouped.unusable or any(each.outcome == "dead_letter" for each in results):
        raise typer.Exit(1)


def _from_file(path: Path, entity: Entity | None, profile: TenantProfile) -> tuple[Grouped, Entity]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError([f"--record: cannot read {path}: {error}"]) from error
    if data.lstrip().startswith(b"<"):
        if entity is None:
            raise ConfigurationError(
                ["say what the SOAP answer holds: --entity contacts, products or orders"]
            )
        answer = Decoder(profile.records).answer(data, None, _operation(entity, profile).result.split("/"))
        if answer.failure is not None:
            raise ConfigurationError([f"--record: {path} holds no records, but a failure: {answer.failure}"])
        return _group(_by_id(answer.rows, path), entity, profile), entity
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"--record: {path} is neither JSON nor XML: {error}"]) from error
    kind = next(
        (_EVENTS[word] for word in _EVENTS if isinstance(document, dict) and word in document), entity
    )
    if kind is None:
        raise ConfigurationError(["say what the record is: --entity contacts, products or orders"])
    return _group(_by_id(_records(document), path), kind, profile), kind


def _records(document: Any) -> list[Any]:  # noqa: ANN401 - any JSON
    """The source records in a raw event, a list, or a record alone."""
    if isinstance(document, list):
        return document
    for word in ("customers", "orders"):
        if isinstance(document, dict) and isinstance(document.get(word), list):
            records: list[Any] = document[word]
            return records
    if isinstance(document, dict) and isinstance(document.get("product"), dict):
        return [{**document["product"], "Items": [document.get("item")]}]
    return [document]


def _by_id(records: list[Any], path: Path) -> dict[str, Record]:
    found = {text_of(each, "ID"): each for each in records if isinstance(each, dict)}
    if len(found) != len(records) or not found or "" in found:
        raise ConfigurationError([f"--record: {path} must hold records that each have an ID of their own"])
    return found


def _fetched(identity: str, entity: Entity, profile: TenantProfile) -> Mapping[str, Record]:
    with estar(profile) as source:
        if entity is Entity.CONTACTS:
            found = source.retrieve_customers([identity])
        elif entity is Entity.PRODUCTS:
            found = source.retrieve_products([identity])
        else:
            found = source.retrieve_orders([identity])
            split = profile.orders.split_line_statuses
            if any(may_have_relatives(order, split) for order in found.values()):
                found = {**found, **source.retrieve_related_orders(identity)}
    if not found:
        raise ConfigurationError([f"the shop returns no {entity} with id {identity}"])
    return found


def _group(records: Mapping[str, Record], entity: Entity, profile: TenantProfile) -> Grouped:
    if entity is Entity.CONTACTS:
        return group_customers(records, profile.contacts.placeholder_emails)
    if entity is Entity.PRODUCTS:
        return group_items(records, profile.products.enabled_statuses, profile.zone, SystemClock().now())
    return group_orders(records)


def _operation(entity: Entity, profile: TenantProfile) -> Operation:
    operations = profile.soap.operations
    return {
        Entity.CONTACTS: operations.retrieve_customers,
        Entity.PRODUCTS: operations.retrieve_products,
        Entity.ORDERS: operations.retrieve_orders,
    }[entity]


def _document(result: Explanation, *, show_values: bool) -> dict[str, Any]:
    def leaf(path: str, text: str | None) -> dict[str, Any]:
        return {"path": path, "text": text} if show_values else {"path": path}

    return {
        "entity": result.entity,
        "key": result.key if show_values else masked(result.key),
        "outcome": result.outcome,
        "problem": result.problem,
        "fields": [
            {
                "name": field.name,
                "state": field.state,
                "value": _value(result.entity, field, show_values=show_values),
                "sources": [leaf(each.path, each.text) for each in field.sources],
                "rule": field.rule,
                "codes": field.codes,
            }
            for field in result.fields
        ],
        "deciding": [leaf(each.path, each.text) for each in result.deciding],
        "dropped": result.dropped,
        "complete": result.complete,
    }


def _show(result: Explanation, *, show_values: bool) -> None:
    key = result.key if show_values else masked(result.key)
    problem = f": {result.problem}" if result.problem else ""
    console().print(f"{result.entity} {key}: {result.outcome}{problem}", markup=False)
    if not result.fields:
        return
    table = Table("field", "value", "comes from")
    for field in result.fields:
        value = field.state
        if field.state == "sent":
            value = str(_value(result.entity, field, show_values=show_values))
        if field.codes:
            value += f" ({', '.join(field.codes)})"
        places = ", ".join(each.path for each in field.sources)
        if not places and field.state == "sent":
            places = "the profile"
        rule = f"[{field.rule}]" if field.rule else ""
        table.add_row(*map(PlainText, (field.name, value, " ".join(filter(None, (places, rule))))))
    console().print(table)
    if result.deciding:
        console().print(
            f"which part counts is decided by {', '.join(each.path for each in result.deciding)}",
            markup=False,
        )
    for name, code in result.dropped:
        console().print(f"not sent as the shop has it: {name} ({code})", markup=False)
    if not result.complete:
        console().print("the record is very long: where its last parts go was not looked for")


def _value(entity: Entity, field: Explained, *, show_values: bool) -> object:
    """What a person may see: a text that may be personal is only said to be there."""
    value = field.value
    if value is None or isinstance(value, bool | int | float):
        return value
    personal = entity is Entity.CONTACTS or field.name.startswith(_PERSONAL)
    if show_values or not personal:
        return str(value)
    return f"({len(value)} characters)" if isinstance(value, str) else "(a date)"
