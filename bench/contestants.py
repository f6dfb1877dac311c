"""Who is measured: the transformer, the bare loop, and other engines in their own documented best set-up."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Contestant:
    """A worker that reads the raw orders.

    Attributes:
        name: short, for commands.
        title: for the table.
        module: what is run, `python -m`.
        guarantee: what it promises in this set-up.
        group: its consumer group, without the prefix; None where it has none.
        transactional: it commits its group's offsets with its records, and those tell how far it is; the others'
            records do, as soon as the broker has them.
        settings: what differs from its defaults.
    """

    name: str
    title: str
    module: str
    guarantee: str
    group: str | None
    transactional: bool
    settings: str


OURS = Contestant(
    "transformer",
    "transformer",
    "transformer",
    "exactly once",
    "estarsync-transformer",
    transactional=True,
    settings="the service as it ships: every field validated, text cleaned, headers, dead letters, metrics,"
    " transactions with the offsets inside",
)
BARE = Contestant(
    "bare",
    "bare loop",
    "bench.bare",
    "at least once",
    "bench-bare",
    transactional=False,
    settings="consume, decode, map, encode with fastavro, produce (`bench/bare.py`); no validation, no headers, no metrics;"
    " failures of delivery are not looked at",
)
PEERS = (
    Contestant(
        "quix",
        "Quix Streams 3.28.1",
        "bench.peers.quix",
        "exactly once",
        "bench-quix",
        transactional=True,
        settings="`processing_guarantee=exactly-once`, a commit every 2,000 records",
    ),
    Contestant(
        "bytewax",
        "Bytewax 0.21.1",
        "bench.peers.bytewax",
        "at least once by design; failures of delivery are not looked at",
        None,
        transactional=False,
        settings="Kafka operators, batches of 1,000, recovery store every 5 s; it has no consumer group, so two processes do"
        " not share work by themselves",
    ),
    Contestant(
        "faststream",
        "FastStream 0.7.8",
        "bench.peers.faststream",
        "at least once",
        "bench-faststream",
        transactional=False,
        settings="on confluent-kafka, batches of 1,000, `NACK_ON_ERROR`, `publish_batch`",
    ),
    Contestant(
        "faust",
        "Faust-streaming 0.15.3",
        "bench.peers.faust",
        "at least once",
        "bench-faust",
        transactional=False,
        settings="an agent on bytes, `producer_linger` 0.05 s",
    ),
)
MISSING = {
    "Redpanda Connect": "not run: its Go module could not be had where this was measured (the module proxy answered 403, `This module version is not available`), so it could not be built",
}
"""Engines that belong in the table and are not run, with why."""
