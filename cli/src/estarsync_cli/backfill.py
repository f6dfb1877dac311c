"""`estarsync backfill`: read the shop again."""

from typing import Annotated

import typer

from estarsync_cli.asking import Yes, agree
from estarsync_cli.ids import new_id
from estarsync_cli.moments import Since
from estarsync_cli.output import Json
from estarsync_cli.requests import submit
from estarsync_core.control import Backfill
from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.settings import KafkaSettings, load

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Show progress until it is over.")]


def backfill(
    *,
    entity: Annotated[Entity, typer.Option(help="What to read.")],
    since: Since = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All that the shop has; instead of --since.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Publish also what has not changed.")] = False,
    yes: Yes = False,
    wait: Wait = True,
    as_json: Json = False,
) -> None:
    """Read from eStar again what changed since a time, beside live work.

    What has not changed is not published again, unless forced. Ctrl-C leaves it running.
    Exit code 1 where it was stopped or refused.
    """
    now = SystemClock().now()
    if (since is None) != everything:
        raise ConfigurationError(
            ["say what to read again: --since TIME, or --all for everything that the shop has"]
        )
    if since is not None and since > now:
        raise ConfigurationError([f"--since {since.isoformat()} is in the future"])
    span = "all that the shop has" if since is None else f"what changed since {since.isoformat()}"
    changed = "each record is published, changed or not" if force else "only what has changed is published"
    plan = [
        f"The extractor will read {span} of {entity} from eStar again, in the bulk lane, beside live work;",
        f"{changed}. Nothing is written to eStar.",
    ]
    settings = load(KafkaSettings)
    agree(plan, yes=yes)
    request = Backfill(new_id(f"backfill-{entity}", now), entity, now, since, force)
    submit(settings, [request], as_json=as_json, wait=wait)
