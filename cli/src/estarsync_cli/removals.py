"""`estarsync removals`: what the poller holds back from removal, and a person's word that it is right."""

import msgspec
import typer
from confluent_kafka import Producer

from estarsync_cli.output import Json, console, print_json
from estarsync_core.entities import Entity
from estarsync_core.errors import RetryLater
from estarsync_core.estar.removal import Approval, Hold, approval_key, hold_key
from estarsync_core.topics import CONTROL
from estarsync_runtime.kafka.config import client_config
from estarsync_runtime.kafka.errors import translated
from estarsync_runtime.kafka.restore import read_topics
from estarsync_runtime.settings import KafkaSettings, load

app = typer.Typer(no_args_is_help=True, help="Removals that the poller holds back.")
_TIMEOUT = 15.0


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
        _write(settings, approval_key(entity), Approval(hold.id, hold.vanishing))
    if as_json:
        print_json({"approved": {entity: hold.vanishing for entity, hold in held.items()}})
    for entity, hold in {} if as_json else held.items():
        console().print(f"{entity}: the next snapshot may remove {hold.vanishing:,}")
    if not held:
        if not as_json:
            console().print("nothing is held back")
        raise typer.Exit(1)


def _held(settings: KafkaSettings) -> dict[Entity, Hold]:
    names = {hold_key(entity).encode(): entity for entity in Entity}
    values: dict[Entity, bytes | None] = {}
    for message in read_topics(settings, [settings.topic(CONTROL)]):
        entity = names.get(message.key() or b"")
        if entity is not None:
            values[entity] = message.value()
    return {entity: msgspec.json.decode(value, type=Hold) for entity, value in values.items() if value}


def _write(settings: KafkaSettings, key: str, approval: Approval) -> None:
    producer = Producer({**client_config(settings), "acks": "all", "partitioner": "murmur2_random"})
    failures: list[str] = []
    with translated():
        producer.produce(
            settings.topic(CONTROL),
            msgspec.json.encode(approval),
            key.encode(),
            on_delivery=lambda error, _: failures.append(error.name()) if error else None,
        )
        unsent = producer.flush(_TIMEOUT)
    if unsent or failures:
        raise RetryLater(f"Kafka did not take the approval ({', '.join(failures) or 'no answer'}): try again")
