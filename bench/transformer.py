"""The transformer against the bare loop: same machine, broker and records, in turn."""

import os
import platform
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # documented

from bench.measure import Run, measure, median, worker
from bench.orders import PROFILE, orders
from bench.peers.environment import python_for
from estarsync_core.clock import Clock
from estarsync_core.topics import declared_topics
from estarsync_runtime.kafka.admin import apply_topics

_PREFIX = f"bench-{uuid.uuid4().hex[:6]}."
_RAW, _TYPED, _BARE = "estar.orders.v1", "dotdigital.orders.v1", "bare.orders.v1"
_GROUPS = {"transformer": "estarsync-transformer", "bare": "bench-bare", "quix": "bench-quix"}
_MODULES = {"transformer": "transformer", "bare": "bench.bare", "quix": "bench.peers.quix"}
PEERS = ("quix",)
_PARTITIONS = 6
_TIMEOUT = 15.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """Every run of each, how many bodies of the first two were the same, and the peers that could not run, with why."""

    records: int
    bytes_each: float
    runs: dict[str, list[Run]]
    checked: int
    absent: dict[str, str]


class Bench:
    """One broker with the raw orders in it."""

    def __init__(self, bootstrap: str, clock: Clock, say: Say) -> None:
        self._config: dict[str, str | int | float | bool] = {"bootstrap.servers": bootstrap}
        self._clock, self._say = clock, say
        self._looker = Consumer({**self._config, "group.id": "bench-looker"})
        self._bootstrap = bootstrap
        self._pythons: dict[str, Path] = {}

    def run(self, records: int, rounds: int, seed: int, peers: Sequence[str] = ()) -> Result:
        """Publish the orders, run all in turn, compare what the first two wrote; blocks for minutes."""
        apply_topics(self._config, declared_topics(), _PREFIX, 1, _TIMEOUT)
        admin = AdminClient(self._config)
        for future in admin.create_topics([NewTopic(_PREFIX + _BARE, _PARTITIONS, 1)]).values():
            future.result()
        size = self._publish(records, seed)
        runs: dict[str, list[Run]] = {"transformer": [], "bare": []}
        absent: dict[str, str] = {}
        for peer in peers:
            try:
                self._pythons[peer] = python_for(peer)
                runs[peer] = []
            except OSError as error:
                absent[peer] = str(error)
        with tempfile.TemporaryDirectory() as folder:
            profile = Path(folder) / "profile.yaml"
            profile.write_text(PROFILE, encoding="utf-8")
            for number in range(rounds):
                for name in sorted(runs, reverse=bool(number % 2)):
                    run = self._one(name, records, profile)
                    runs[name].append(run)
                    self._say(f"{name:12} {run.cpu:6.2f} CPU s /100k  {run.rate:9,.0f}/s  {run.rss:5.0f} MiB")
        return Result(records, size, runs, self._compare(), absent)

    def _publish(self, records: int, seed: int) -> float:
        producer = Producer({**self._config, "partitioner": "murmur2_random", "compression.type": "lz4"})
        size = 0
        for key, value, headers in orders(records, seed):
            size += len(value)
            while True:
                try:
                    producer.produce(_PREFIX + _RAW, value, key, headers=[*headers])
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.flush()
        self._say(f"{records:,} orders of {size / records:,.0f} bytes published")
        return size / records

    def _one(self, name: str, records: int, profile: Path) -> Run:
        self._forget(_PREFIX + _GROUPS[name])
        env = {
            "KAFKA_BOOTSTRAP_SERVERS": self._bootstrap,
            "TOPIC_PREFIX": _PREFIX,
            "TENANT_PROFILE": str(profile),
            "INSTANCE_ID": "bench",
            "BENCH_TARGET": _BARE,
            "LOG_LEVEL": "WARNING",
        }
        before = self._end(_BARE)
        with (
            worker(_MODULES[name], env, self._pythons.get(name)) as process,
            self._progress(name, before) as progress,
        ):
            return measure(process, records, progress, self._clock)

    @contextmanager
    def _progress(self, name: str, before: int) -> Iterator[Callable[[], int]]:
        """How many records are finished: committed by the transformer, acknowledged to the bare loop."""
        if name == "bare":
            yield lambda: self._end(_BARE) - before
            return
        group = Consumer({**self._config, "group.id": _PREFIX + _GROUPS[name]})
        places = [TopicPartition(_PREFIX + _RAW, number) for number in range(_PARTITIONS)]
        try:
            yield lambda: sum(max(0, place.offset) for place in group.committed(places, _TIMEOUT))
        finally:
            group.close()

    def _end(self, topic: str) -> int:
        places = [TopicPartition(_PREFIX + topic, number) for number in range(_PARTITIONS)]
        return sum(self._looker.get_watermark_offsets(place, _TIMEOUT)[1] for place in places)

    def _forget(self, group: str) -> None:
        """Let the group begin again; one whose last member has just left may need a moment."""
        admin = AdminClient(self._config)
        deadline = self._clock.monotonic() + _TIMEOUT
        while group in {it.group_id for it in admin.list_consumer_groups().result().valid}:
            try:
                admin.delete_consumer_groups([group])[group].result()
            except KafkaException:
                if self._clock.monotonic() > deadline:
                    raise
                self._clock.sleep(0.2)

    def _compare(self) -> int:
        """How many bodies of one partition are the same for both.

        Raises:
            AssertionError: one differs: the two have not done the same work.
        """
        ours, theirs = self._bodies(_TYPED), self._bodies(_BARE)
        same = sum(theirs[key] == body for key, body in ours.items() if key in theirs)
        if not same or same != len(ours.keys() & theirs.keys()):
            raise AssertionError("the transformer and the bare loop wrote different bodies")
        return same

    def _bodies(self, topic: str, most: int = 10_000) -> dict[bytes, bytes]:
        reader = Consumer({**self._config, "group.id": "bench-reader", "auto.offset.reset": "earliest"})
        reader.assign([TopicPartition(_PREFIX + topic, 0, 0)])
        found: dict[bytes, bytes] = {}
        try:
            while len(found) < most and (messages := reader.consume(2000, 2.0)):
                found |= {it.key() or b"": (it.value() or b"")[10:] for it in messages if it.error() is None}
        finally:
            reader.close()
        return found


_TITLES = {
    "bare": "bare loop (at least once)",
    "transformer": "transformer (exactly once)",
    "quix": "Quix Streams 3.28.1 (exactly once)",
}


def report(result: Result, broker: str, command: str) -> str:
    """The result as a section of the page."""
    base = median([run.cpu for run in result.runs["bare"]])
    rows = []
    for name, title in _TITLES.items():
        if name in result.absent:
            rows.append(f"| {title} | not run: {result.absent[name]} | | | |")
        if name not in result.runs:
            continue
        runs = result.runs[name]
        cpu = median([run.cpu for run in runs])
        spread = f"{min(run.cpu for run in runs):.2f}-{max(run.cpu for run in runs):.2f}"
        rate, rss = median([run.rate for run in runs]), max(run.rss for run in runs)
        rows.append(f"| {title} | {cpu:.2f} ({spread}) | {cpu / base:.2f} | {rate:,.0f} | {rss:.0f} |")
    versions = ", ".join(
        f"{name} {version(name)}"
        for name in ("confluent-kafka", "fastavro", "msgspec", "estarsync-transformer")
    )
    return _PAGE.format(
        rows="\n".join(rows),
        records=result.records,
        size=result.bytes_each,
        rounds=len(result.runs["bare"]),
        checked=result.checked,
        broker=broker,
        versions=versions,
        python=platform.python_version(),
        command=command,
        load=os.getloadavg()[0],
        cores=os.cpu_count(),
    )


_PAGE = """Written by `{command}`.

| contestant | CPU s / 100,000 (range) | ratio | records/s | peak RSS, MiB |
|---|---|---|---|---|
{rows}

- **transformer**: the service as it ships: every field validated, text cleaned, headers, dead letters, metrics, exactly
  once (transactions with the offsets inside).
- **Quix Streams** (`bench/peers/quix.py`): the bare loop's work in an environment of its own; `exactly-once`, a commit every 2,000 records.
- **bare loop** (`bench/bare.py`): consume, decode, map, encode with fastavro, produce; no validation, no headers, no
  metrics, at least once.

Method: {records:,} orders of {size:,.0f} bytes (four lines, seeded) in six partitions, {rounds} runs of each, in turn, each a
process of its own that reads everything from the beginning; median. CPU is user and system time of all threads
from the first tenth of the records to the last one, so that imports and joining the group are left out; RSS is the
process's peak (VmHWM). {checked:,} bodies of one partition were compared and are the same. Bare loop and transformer have
the same librdkafka queues.

The load average at the end was {load:.1f} on {cores} cores; well above the number of cores, other work took turns and ratios are rough.

Broker: {broker}. CPython {python}; {versions}.
"""
