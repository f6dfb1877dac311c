"""`estarsync topics`: the topics as declared, on this cluster."""

from typing import Annotated

import typer
from rich.table import Table

from estarsync_cli.output import Json, console, print_json
from estarsync_core.topics import declared_topics
from estarsync_runtime.kafka.admin import apply_topics
from estarsync_runtime.kafka.config import connection_config
from estarsync_runtime.settings import KafkaSettings, load

app = typer.Typer(no_args_is_help=True, help="The topics as declared, on this cluster.")
_TIMEOUT = 30.0


@app.command("list")
def list_topics(*, as_json: Json = False) -> None:
    """Show the declared topics: who writes them, who reads them, what is in them."""
    specs = declared_topics()
    if as_json:
        print_json([spec.model_dump() for spec in specs])
        return
    table = Table("topic", "key", "value", "written by", "read by")
    for spec in specs:
        table.add_row(spec.name, spec.key, spec.value, ", ".join(spec.writers), ", ".join(spec.readers))
    console().print(table)


@app.command("apply")
def apply(
    *,
    replication: Annotated[
        int, typer.Option(help="Copies of each partition; 3 on a real cluster.", min=1)
    ] = 3,
    as_json: Json = False,
) -> None:
    """Create the topics that are missing; topics that exist are left as they are."""
    settings = load(KafkaSettings)
    created = apply_topics(
        connection_config(settings),
        declared_topics(),
        settings.topic_prefix,
        replication=replication,
        timeout=_TIMEOUT,
    )
    if as_json:
        print_json({"created": created})
        return
    for name in created:
        console().print(f"created {name}")
    if not created:
        console().print("nothing to do: every topic is there")
