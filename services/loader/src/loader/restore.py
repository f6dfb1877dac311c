"""What an earlier loader left in Kafka: what it had settled, and what it had in flight."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from confluent_kafka import Message

from estarsync_core.entities import Entity, Version
from loader.batches import Batch, Kind
from loader.fences import CHUNK, Fences
from loader.records import Outcome, Settled

Row = tuple[bytes, bytes | None]
"""A record's key and value."""


class _SettledRow(msgspec.Struct):
    sequence: int
    revision: int
    hash: str
    outcome: str
    there: bool
    email: str | None = None
    place: tuple[int, int] | None = None


class _ImportRow(msgspec.Struct):
    state: str
    import_id: str | None = None
    lost: bool = False
    seconds: float | None = None


class _Intent(msgspec.Struct):
    entity: str
    kind: str
    payload_hash: str
    keys: msgspec.Raw


def rows_of(messages: Iterable[Message]) -> Iterator[Row]:
    """Keys and values of records."""
    return ((message.key() or b"", message.value()) for message in messages)


def settled_states(rows: Iterable[Row]) -> Iterator[tuple[Entity, str, Settled | None]]:
    """The settled states in `estarsync.delivered.v1`, oldest first; None where a state was taken back."""
    decoder = msgspec.json.Decoder(_SettledRow)
    for name, value in rows:
        entity, _, key = name.decode().partition(":")
        if value is None:
            yield Entity(entity), key, None
            continue
        row = decoder.decode(value)
        version = Version(row.sequence, row.revision)
        yield (
            Entity(entity),
            key,
            Settled(version, row.hash, Outcome(row.outcome), row.email, row.there, row.place),
        )


def open_batches(
    rows: Iterable[Row], folder: Path | None = None, chunk: int = CHUNK
) -> tuple[list[Batch], float]:
    """The batches that were open in `estarsync.imports.v1`, and the seconds of the longest import seen.

    Args:
        rows: of that topic, oldest first.
        folder: on the disk that takes the batches' fences; None for the system's own.
        chunk: how many fences are worked on at a time.
    """
    decoder = msgspec.json.Decoder(_ImportRow)
    intents: dict[str, list[bytes]] = {}  # as they were written: most of them are over in the end
    accepted: dict[str, _ImportRow] = {}
    longest = 0.0
    for name, value in rows:
        batch_id = name.decode()
        row = decoder.decode(value) if value is not None else _ImportRow("closed")
        if row.state == "intent" and value is not None:
            intents[batch_id] = [value]
        elif row.state == "more_keys" and value is not None and batch_id in intents:
            intents[batch_id].append(value)
        elif row.state == "accepted":
            accepted[batch_id] = row
        elif row.state == "renewed":
            accepted.pop(batch_id, None)
        elif row.state == "closed":
            intents.pop(batch_id, None)
            accepted.pop(batch_id, None)
            longest = max(longest, row.seconds or 0.0)
    batches = []
    while intents:
        batch_id, values = intents.popitem()
        batches.append(_batch(batch_id, values, accepted.get(batch_id), Fences(folder, chunk=chunk)))
    return batches[::-1], longest


def _batch(batch_id: str, values: list[bytes], accepted: _ImportRow | None, fences: Fences) -> Batch:
    intents = [msgspec.json.decode(value, type=_Intent) for value in values]
    for intent in intents:
        fences.extend(bytes(intent.keys))
    return Batch(
        batch_id,
        Entity(intents[0].entity),
        Kind(intents[0].kind),
        fences,
        digest=intents[0].payload_hash,
        import_id=None if accepted is None else accepted.import_id,
        lost=accepted is not None and accepted.lost,
        restored=True,
    )
