"""`estarsync trace`: what happened to this shopper, product or order?"""

from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from estarsync_cli.output import Json, console, masked, print_json
from estarsync_cli.story import Story, as_document, stories
from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError, InvalidRecord
from estarsync_runtime.settings import KafkaSettings, load


def trace(
    key: Annotated[str, typer.Argument(metavar="EMAIL|SKU|ORDER", help="Which record.")],
    *,
    entity: Annotated[
        Entity | None,
        typer.Option(help="Where to look: an e-mail is a contact, all else a product or an order."),
    ] = None,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Also print the e-mail and the payload: personal data.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell what happened to one record, from the shop's event to Dotdigital's answer, oldest first.

    What it prints by default may go into a ticket: times, ids, counts and codes, no value of the record.
    Exit code 1 where nothing is known of it.
    """
    try:
        found = stories(load(KafkaSettings), key, entity)
    except InvalidRecord as error:
        raise ConfigurationError([f"{masked(key)!r} is no e-mail: contacts are found by e-mail"]) from error
    if as_json:
        document = as_document(found, show_values=show_values)
        for each in () if show_values else document:
            each["key"] = masked(each["key"])
        print_json(document)
    for story in [] if as_json else found:
        _show(story, show_values=show_values)
    if not found:
        if not as_json:
            console().print(f"nothing is known of {key if show_values else masked(key)}")
        raise typer.Exit(1)


def _show(story: Story, *, show_values: bool) -> None:
    name = story.key if show_values else masked(story.key)
    console().print(f"{story.entity} {name}: {story.verdict}", markup=False)
    table = Table("time (UTC)", "what", "facts")
    for event in story.events:
        facts = ", ".join(f"{each} {_text(value)}" for each, value in event.facts.items())
        table.add_row(event.at.isoformat(sep=" ", timespec="milliseconds")[:23], event.what, facts)
    console().print(table)
    if show_values and story.payload is not None:
        console().print(
            msgspec.json.format(msgspec.json.encode(story.payload), indent=2).decode(),
            markup=False,
            soft_wrap=True,
        )


def _text(value: Any) -> str:  # noqa: ANN401 - whatever a fact is
    return "-" if value is None else str(value)
