"""`estarsync reconcile`: is everything there?"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from random import SystemRandom
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from estarsync_cli.asking import Yes, agree
from estarsync_cli.backfill import Wait
from estarsync_cli.connection import dotdigital
from estarsync_cli.following import Request
from estarsync_cli.ids import new_id
from estarsync_cli.output import Json, console, masked, notice, print_json
from estarsync_cli.publish import publish_reconcile
from estarsync_cli.requests import submit_all
from estarsync_core.canary import synthetic
from estarsync_core.control import Resync
from estarsync_core.entities import Entity
from estarsync_core.topics import typed_topic
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.dotdigital.connect import DotdigitalSettings
from estarsync_runtime.dotdigital.provisioning import existing
from estarsync_runtime.kafka.control import read_words
from estarsync_runtime.kafka.extent import Extents
from estarsync_runtime.reconcile import Comparison, Reconciler
from estarsync_runtime.settings import KafkaSettings, load

_IN_ONE_WORD = 5000  # keys: about 200 KB of JSON


class Settings(KafkaSettings, DotdigitalSettings):
    """Both sides."""


def reconcile(
    *,
    entity: Annotated[list[Entity] | None, typer.Option(help="Only this entity; may be repeated.")] = None,
    sample: Annotated[
        int | None,
        typer.Option(help="Compare so many records of each, read one by one; nothing is extra.", min=1),
    ] = None,
    heal: Annotated[
        bool, typer.Option("--heal", help="Send again exactly what differs or is missing.")
    ] = False,
    details: Annotated[
        Path | None,
        typer.Option(help="Write every difference there, a JSON line each: keys are personal data."),
    ] = None,
    show_keys: Annotated[
        bool, typer.Option("--show-keys", help="Don't mask e-mails in the samples.")
    ] = False,
    yes: Yes = False,
    wait: Wait = True,
    as_json: Json = False,
) -> None:
    """Read Dotdigital back and compare it with the latest payloads.

    Exit code 1 where records differ, are missing or are too many; with --heal, where that could not be asked for or
    did not come to its end. Nothing at Dotdigital is ever deleted by it: what is extra is listed.
    """
    settings = load(Settings)
    if heal:
        agree(
            ["What differs or is missing will be sent again, in the bulk lane; live records overtake it."],
            yes=yes,
        )
    client = dotdigital(settings)
    results: dict[Entity, Comparison] = {}
    now = SystemClock().now()
    requests: list[Request] = []
    _say_what_is_on_its_way(settings)
    with ExitStack() as stack:
        stack.enter_context(_interruptible())
        account = existing(client, settings)
        notice("reading what is expected …")
        reconciler = stack.enter_context(
            closing(
                Reconciler(
                    settings, client, account, settings.contact_scope, without=synthetic(read_words(settings))
                )
            )
        )
        lines = None if details is None else stack.enter_context(details.open("wb"))
        for each in entity or list(Entity):
            if sample is not None:
                reconciler.sample(each, sample, SystemRandom())
            results[each] = _compare(reconciler, each)
            if lines is not None:
                lines.writelines(_details(reconciler, each))
            if heal:
                requests += _cure(reconciler, each, now)
    healed = submit_all(settings, requests, wait=wait) if requests else []
    if as_json:
        found = {name: summary(result, show_keys=show_keys) for name, result in results.items()}
        print_json({**found, "healed": healed} if heal else found)
    else:
        show(results, show_keys=show_keys)
    if sample is None:  # a sample is no measure of the whole
        publish_reconcile(results, SystemClock())
    if heal:
        _end_of_healing(requests, healed, results)
    elif not all(result.in_agreement for result in results.values()):
        raise typer.Exit(1)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C while both sides are read."""
    try:
        yield
    except KeyboardInterrupt:
        notice("nothing was changed, and nothing is measured: run the command again")
        raise typer.Exit(130) from None


def _compare(reconciler: Reconciler, entity: Entity) -> Comparison:
    """With a bar on stderr: a large account takes minutes, and a small quota hours."""
    notice(f"reading Dotdigital's {entity} back …")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(entity, total=reconciler.count(entity))
        return reconciler.compare(entity, lambda number: bars.update(task, completed=number))


def _say_what_is_on_its_way(settings: Settings) -> None:
    topics = [typed_topic(each) for each in Entity]
    with closing(Extents(settings, topics)) as extents:
        behind = sum(extents.lag(topic, "estarsync-loader").records for topic in topics)
    if behind:
        notice(
            f"the loader is up to {behind:,} records behind: what is on its way counts as different or missing"
        )


def _details(reconciler: Reconciler, entity: Entity) -> Iterator[bytes]:
    for key, kind in reconciler.differing(entity):
        yield msgspec.json.encode({"entity": entity, "kind": kind, "key": key}) + b"\n"
    for key in reconciler.extras(entity):
        yield msgspec.json.encode({"entity": entity, "kind": "extra", "key": key}) + b"\n"


def _cure(reconciler: Reconciler, entity: Entity, now: datetime) -> Iterator[Request]:
    """Requests for what differs or is missing: forced, since the loader takes it for delivered."""
    keys = (key for key, _ in reconciler.differing(entity))
    while part := tuple(islice(keys, _IN_ONE_WORD)):
        yield Resync(new_id(f"heal-{entity}", now), entity, "typed", now, part, force=True)


def _end_of_healing(
    requests: Sequence[Request], healed: Sequence[dict[str, Any]], results: Mapping[Entity, Comparison]
) -> None:
    extra = sum(result.extra for result in results.values())
    if extra:
        notice(
            f"{extra:,} are extra: nothing of the shop's. `--details FILE` lists them; remove them at Dotdigital"
        )
    if not requests:
        notice("there is nothing to heal")
        return
    notice("run `estarsync reconcile` again to see that all is well")
    if any(each["progress"] is not None and each["progress"]["state"] != "done" for each in healed):
        raise typer.Exit(1)


def summary(result: Comparison, *, show_keys: bool = False) -> dict[str, Any]:
    """A comparison as plain data."""
    return {
        "agree": result.agree,
        "different": result.different,
        "missing": result.missing,
        "extra": result.extra,
        "dead_letters": result.dead_letters,
        "kept": result.kept,
        "filtered": result.filtered,
        "percentage": result.percentage,
        "samples": [
            {"key": each.key if show_keys else masked(each.key), "kind": each.kind, "fields": each.fields}
            for each in result.samples
        ],
    }


def _percent(result: Comparison) -> str:
    """Never 100 where anything is wrong."""
    share = result.percentage or 0.0
    return f"{share if result.in_agreement else min(share, 99.99):.2f} %"


def show(results: dict[Entity, Comparison], *, show_keys: bool = False) -> None:
    """The table for people."""
    table = Table("", "agree", "different", "missing", "extra", "dead letters", "in agreement")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, result in results.items():
        share = "nothing there" if result.percentage is None else _percent(result)
        numbers = (result.agree, result.different, result.missing, result.extra, result.dead_letters)
        table.add_row(name, *(f"{number:,}" for number in numbers), share)
    console().print(table)
    for name, result in results.items():
        if result.kept:
            console().print(
                f"{name}: {result.kept:,} that the shop no longer has stay there: only an erasure deletes a contact"
            )
        if result.filtered:
            console().print(f"{name}: {result.filtered:,} are out of CONTACT_SCOPE")
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
