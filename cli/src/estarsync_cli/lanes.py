"""`estarsync lanes`: what the loader has stopped, why, and a person's word that the cause is gone."""

from typing import Annotated

import typer

from estarsync_cli.asking import Yes, agree
from estarsync_cli.output import Json, console, print_json
from estarsync_core.control import LaneStop, Release, Words, encode, release_key
from estarsync_core.entities import Entity
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.control import read_words, write_words
from estarsync_runtime.settings import KafkaSettings, load

app = typer.Typer(no_args_is_help=True, help="What the loader has stopped, and letting it go on.")


def stopped(words: Words) -> dict[Entity, LaneStop]:
    """The stops that hold."""
    found = {entity: words.stopped(entity) for entity in Entity}
    return {entity: stop for entity, stop in found.items() if stop is not None}


@app.command("list")
def list_stopped(*, as_json: Json = False) -> None:
    """Show what is stopped, since when and why. Exit code 1 where something is."""
    found = stopped(read_words(load(KafkaSettings)))
    if as_json:
        print_json(found)
    else:
        _show(found)
    if found:
        raise typer.Exit(1)


@app.command("resume")
def resume(
    entity: Annotated[
        list[Entity] | None, typer.Argument(help="Only these; all that is stopped by default.")
    ] = None,
    *,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Let the loader go on with what is stopped. Exit code 1 where nothing is."""
    settings = load(KafkaSettings)
    found = {
        name: stop for name, stop in stopped(read_words(settings)).items() if not entity or name in entity
    }
    if found:
        if not as_json:
            _show(found)
        names = ", ".join(found)
        plan = f"The loader will send {names} again, from where it stopped; where the cause is still there, it stops again."
        agree([plan], yes=yes)
        now = SystemClock().now()
        write_words(
            settings, {release_key(name): encode(Release(stop.id, now)) for name, stop in found.items()}
        )
    if as_json:
        print_json({"released": list(found)})
    elif found:
        console().print(f"released: {', '.join(found)}")
    else:
        console().print("nothing is stopped")
    if not found:
        raise typer.Exit(1)


def _show(found: dict[Entity, LaneStop]) -> None:
    for entity, stop in found.items():
        console().print(f"{entity}: stopped since {stop.at:%Y-%m-%d %H:%M} UTC ({stop.code})", markup=False)
        console().print(f"  {stop.reason}", markup=False, soft_wrap=True)
    if not found:
        console().print("nothing is stopped")
