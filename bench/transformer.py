"""The transformer against the bare loop and other engines: same machine, broker and records, in turn."""

import math
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # documented

from bench.contestants import BARE, OURS, Contestant
from bench.freshness import Freshness, watch
from bench.measure import Run, measure, worker
from bench.orders import PROFILE, orders
from bench.peers.environment import python_for
from estarsync_core.clock import Clock
from estarsync_core.topics import declared_topics
from estarsync_runtime.kafka.admin import apply_topics

_PREFIX = f"bench-{uuid.uuid4().hex[:6]}."
_RAW, _TYPED, _BARE = "estar.orders.v1", "dotdigital.orders.v1", "bare.orders.v1"
_PARTITIONS = 6
_TIMEOUT = 15.0
_PEER_SECONDS = 60.0  # of a slow one, that are enough

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured.

    Attributes:
        records: so many were read in each run.
        bytes_each: a raw order's size.
        runs: every run of each, by name.
        pair: one run of two transformers at once.
        freshness: how long records took; None where that was not measured.
        checked: how many bodies of the first two were compared, and were the same.
        absent: the peers that could not run, with why.
    """

    records: int
    bytes_each: float
    runs: dict[str, list[Run]]
    pair: Run | None
    freshness: Freshness | None
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

    def run(
        self, records: int, rounds: int, seed: int, peers: Sequence[Contestant] = (), seconds: float = 0.0
    ) -> Result:
        """Publish the orders, run all in turn, compare what the first two wrote; blocks for minutes.

        Args:
            records: so many orders.
            rounds: of everyone.
            seed: of the orders.
            peers: who runs beside ours and the bare loop; one that can't is reported.
            seconds: for as long, records come at a steady pace and are timed; 0 for not at all.
        """
        apply_topics(self._config, declared_topics(), _PREFIX, 1, _TIMEOUT)
        admin = AdminClient(self._config)
        for future in admin.create_topics([NewTopic(_PREFIX + _BARE, _PARTITIONS, 1)]).values():
            future.result()
        size = self._publish(records, seed)
        absent: dict[str, str] = {}
        running = [OURS, BARE, *(peer for peer in peers if self._is_there(peer, absent))]
        runs: dict[str, list[Run]] = {each.name: [] for each in running}
        with tempfile.TemporaryDirectory() as folder:
            profile = Path(folder) / "profile.yaml"
            profile.write_text(PROFILE, encoding="utf-8")
            for number in range(rounds):
                for each in reversed(running) if number % 2 else running:
                    if each.name not in absent:
                        self._try(each, records, profile, runs[each.name], absent)
            checked = self._compare()
            pair = self._one(OURS, records, profile, 2) if rounds else None
            if pair is not None:
                self._tell("two of ours", pair)
            fresh = None
            if seconds:
                with worker(OURS.module, self._env(profile, "bench")):
                    fresh = watch(self._config, _PREFIX + _RAW, _PREFIX + _TYPED, seconds, self._clock)
        runs = {name: found for name, found in runs.items() if found}
        return Result(records, size, runs, pair, fresh, checked, absent)

    def _is_there(self, peer: Contestant, absent: dict[str, str]) -> bool:
        try:
            self._pythons[peer.name] = python_for(peer.name)
        except OSError as error:
            absent[peer.name] = str(error)
            self._say(f"{peer.name}: {error}")
        return peer.name not in absent

    def _try(
        self, each: Contestant, records: int, profile: Path, runs: list[Run], absent: dict[str, str]
    ) -> None:
        """One run; a peer that fails is reported and the rest goes on."""
        try:
            run = self._one(each, records, profile)
        except TimeoutError as error:
            if each in {OURS, BARE}:
                raise
            absent[each.name] = str(error)
            self._say(f"{each.name}: {error}")
        else:
            runs.append(run)
            self._tell(each.name, run)

    def _tell(self, name: str, run: Run) -> None:
        self._say(f"{name:12} {run.cpu:6.2f} CPU s /100k  {run.rate:9,.0f}/s  {run.rss:5.0f} MiB")

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

    def _env(self, profile: Path, instance: str) -> dict[str, str]:
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self._bootstrap,
            "TOPIC_PREFIX": _PREFIX,
            "TENANT_PROFILE": str(profile),
            "INSTANCE_ID": instance,
            "BENCH_TARGET": _BARE,
            "LOG_LEVEL": "WARNING",
        }

    def _one(self, each: Contestant, records: int, profile: Path, processes: int = 1) -> Run:
        """One run, of one process or several.

        Raises:
            TimeoutError: it does not finish.
        """
        if each.group is not None:
            self._forget(_PREFIX + each.group)
        python = self._pythons.get(each.name)
        before = self._end(_BARE)
        with ExitStack() as stack:
            workers = [
                stack.enter_context(worker(each.module, self._env(profile, f"bench-{number}"), python))
                for number in range(processes)
            ]
            progress = stack.enter_context(self._progress(each, before))
            enough = math.inf if each in {OURS, BARE} else _PEER_SECONDS
            return measure(workers, records, progress, self._clock, enough)

    @contextmanager
    def _progress(self, each: Contestant, before: int) -> Iterator[Callable[[], int]]:
        """How many records are finished: committed with their offsets, or else acknowledged to the writer."""
        if not each.transactional:
            yield lambda: self._end(_BARE) - before
            return
        group = Consumer({**self._config, "group.id": f"{_PREFIX}{each.group}"})
        places = [TopicPartition(_PREFIX + _RAW, number) for number in range(_PARTITIONS)]
        try:
            yield lambda: sum(max(0, place.offset) for place in group.committed(places, _TIMEOUT))
        finally:
            group.close()

    def _end(self, topic: str) -> int:
        """How many offsets a topic has; one that is just being made may need a moment."""
        places = [TopicPartition(_PREFIX + topic, number) for number in range(_PARTITIONS)]
        deadline = self._clock.monotonic() + _TIMEOUT
        while True:
            try:
                return sum(self._looker.get_watermark_offsets(place, _TIMEOUT)[1] for place in places)
            except KafkaException:
                if self._clock.monotonic() > deadline:
                    raise
                self._clock.sleep(0.2)

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
