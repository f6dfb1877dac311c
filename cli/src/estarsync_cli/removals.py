"""`estarsync removals`: what the poller holds back from removal, and a person's word that it is right."""

import msgspec
import typer

from estarsync_cli.asking import Yes, agree
from estarsync_cli.output import Json, console, masked, print_json
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
        print_json({entity: _document(hold) for entity, hold in held.items()})
        return
    for line in _lines(held):
        console().print(line, markup=False, soft_wrap=True)
    if not held:
        console().print("nothing is held back")


@app.command("approve")
def approve(*, yes: Yes = False, as_json: Json = False) -> None:
    """Let the next snapshot remove what is held back now, and no more than that.

    Exit code 1 where nothing is held back.
    """
    settings = load(KafkaSettings)
    held = _held(settings)
    if held:
        last = "The next snapshot may remove that many from Dotdigital, and no more. What the shop has again by then stays."
        agree([*_lines(held), last], yes=yes)
        words = {
            approval_key(entity): encode(Approval(hold.id, hold.vanishing)) for entity, hold in held.items()
        }
        write_words(settings, words)
    if as_json:
        print_json({"approved": {entity: hold.vanishing for entity, hold in held.items()}})
    for entity, hold in {} if as_json else held.items():
        console().print(f"{entity}: the next snapshot may remove {hold.vanishing:,}")
    if not held:
        if not as_json:
            console().print("nothing is held back")
        raise typer.Exit(1)


def _lines(held: dict[Entity, Hold]) -> list[str]:
    """What would go, for people: how many, what share, some of them."""
    found = []
    for entity, hold in held.items():
        some = ", ".join(masked(key) for key in hold.sample)
        of = f"{hold.vanishing:,} of {hold.published:,} ({100 * hold.share:.1f} %)"
        found.append(
            f"{entity}: {of} would be removed, held back since {hold.id}" + (f": {some} …" if some else "")
        )
    return found


def _document(hold: Hold) -> dict[str, object]:
    return {**msgspec.to_builtins(hold), "share": hold.share, "sample": [masked(key) for key in hold.sample]}


def _held(settings: KafkaSettings) -> dict[Entity, Hold]:
    words = read_words(settings)
    held = {entity: words.get(hold_key(entity), Hold) for entity in Entity}
    return {entity: hold for entity, hold in held.items() if hold is not None}
