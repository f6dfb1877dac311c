"""`estarsync reconcile`: is everything there?"""

from contextlib import closing
from typing import Annotated, Any

import typer
from rich.table import Table

from estarsync_cli.connection import dotdigital
from estarsync_cli.output import Json, console, masked, print_json
from estarsync_cli.publish import publish_reconcile
from estarsync_core.entities import Entity
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.dotdigital.connect import DotdigitalSettings
from estarsync_runtime.dotdigital.provisioning import existing
from estarsync_runtime.reconcile import Comparison, Reconciler
from estarsync_runtime.settings import KafkaSettings, load


class Settings(KafkaSettings, DotdigitalSettings):
    """Both sides."""


def reconcile(
    *,
    entity: Annotated[list[Entity] | None, typer.Option(help="Only this entity; may be repeated.")] = None,
    show_keys: Annotated[
        bool, typer.Option("--show-keys", help="Don't mask e-mails in the samples.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read Dotdigital back and compare it with the latest payloads.

    Exit code 1 where records differ, are missing or are too many.
    """
    settings = load(Settings)
    client = dotdigital(settings)
    results: dict[Entity, Comparison] = {}
    with closing(Reconciler(settings, client, existing(client, settings))) as reconciler:
        for each in entity or list(Entity):
            results[each] = reconciler.compare(each)
    if as_json:
        print_json({name: summary(result, show_keys=show_keys) for name, result in results.items()})
    else:
        show(results, show_keys=show_keys)
    publish_reconcile(results, SystemClock())
    if not all(result.in_agreement for result in results.values()):
        raise typer.Exit(1)


def summary(result: Comparison, *, show_keys: bool = False) -> dict[str, Any]:
    """A comparison as plain data."""
    return {
        "agree": result.agree,
        "different": result.different,
        "missing": result.missing,
        "extra": result.extra,
        "dead_letters": result.dead_letters,
        "samples": [
            {"key": each.key if show_keys else masked(each.key), "kind": each.kind, "fields": each.fields}
            for each in result.samples
        ],
    }


def show(results: dict[Entity, Comparison], *, show_keys: bool = False) -> None:
    """The table for people."""
    table = Table("", "agree", "different", "missing", "extra", "dead letters", "in agreement")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, result in results.items():
        expected = result.agree + result.different + result.missing + result.extra
        share = f"{100 * result.agree / expected:.2f} %" if expected else "nothing there"
        numbers = (result.agree, result.different, result.missing, result.extra, result.dead_letters)
        table.add_row(name, *(f"{number:,}" for number in numbers), share)
    console().print(table)
    orders = results.get(Entity.ORDERS)
    if orders is not None:
        console().print(
            f"revenue: {orders.revenue_expected:,.2f} sent, {orders.revenue_actual:,.2f} at Dotdigital"
        )
    for name, result in results.items():
        for each in result.samples:
            key = each.key if show_keys else masked(each.key)
            fields = f" in {', '.join(each.fields)}" if each.fields else ""
            console().print(f"  {name} {key}: {each.kind}{fields}")
