"""`estarsync removals`: what the poller holds back from removal, and a person's word that it is right."""

import msgspec
import typer

from estarsync_cli.output import Json, console, print_json
from estarsync_core.control import encode
from estarsync_core.entities import Entity
from estarsync_core.estar.removal import Approval, Hold, approval_key, hold_key
from estarsync_runtime.kafka.control import read_words, write_words
from estarsync_runtime.settings import KafkaSettings, load

app = typer.Typer(no_args_is_help=True, help="Removals that the poller holds back.")


@app.command("list")
def list_held(*, as_json: Json = False) -> None:
    """Show which removals wait for a person's word."""
    held = _held(load(KafkaSettings))
    if as_json:
        print_json({entity: msgspec.to_builtins(hold) for entity, hold in held.items()})
        return
    for entity, hold in held.items():
        console().print(
            f"{entity}: {hold.vanishing:,} of {hold.published:,} would be removed, since {hold.id}"
        )
    if not held:
        console().print("nothing is held back")


@app.command("approve")
def approve(*, as_json: Json = False) -> None:
    """Let the next snapshot remove what is held back now, and no more than that.

    Exit code 1 where nothing is held back.
    """
    settings = load(KafkaSettings)
    held = _held(settings)
    for entity, hold in held.items():
        write_words(settings, {approval_key(entity): encode(Approval(hold.id, hold.vanishing))})
    if as_json:
        print_json({"approved": {entity: hold.vanishing for entity, hold in held.items()}})
    for entity, hold in {} if as_json else held.items():
        console().print(f"{entity}: the next snapshot may remove {hold.vanishing:,}")
    if not held:
        if not as_json:
            console().print("nothing is held back")
        raise typer.Exit(1)


def _held(settings: KafkaSettings) -> dict[Entity, Hold]:
    words = read_words(settings)
    held = {entity: words.get(hold_key(entity), Hold) for entity in Entity}
    return {entity: hold for entity, hold in held.items() if hold is not None}
