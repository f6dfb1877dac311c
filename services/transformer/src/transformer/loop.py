"""The exactly-once loop: read a batch, write what it becomes and the offsets in one transaction, again.

Rebalances are only served inside `consume`, where no transaction is open: a partition never leaves while its
records are half written, and nothing needs to be undone when it does. Partitions are handed over cooperatively, so
that a joining or leaving process stops nobody whose partitions stay. The offsets carry the group's generation,
so the broker refuses them from a process that has lost its partitions without noticing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from estarsync_core.clock import Clock
from estarsync_core.errors import RetryLater, Stop
from estarsync_runtime.health import Health
from estarsync_runtime.kafka.errors import TransactionAborted, translate, translated
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.kafka.positions import Positions
from estarsync_runtime.kafka.producer import TransactionalProducer
from estarsync_runtime.lifecycle import StopSignal
from estarsync_runtime.metrics import Metrics
from transformer.flood import Flood
from transformer.handler import DEAD_LETTER, Handler, RawEvent
from transformer.rewind import Fate
from transformer.rewinds import Rewinds
from transformer.tally import Tally
from transformer.traced import TracedHandler

Place = tuple[str, int]

_TIMEOUT = 15.0
_MAPPING_SECONDS = 3.0  # of a transaction's 10: a batch of giants takes several transactions
# After an outage librdkafka's producer may be in a state in which a call never returns; a new one begins afresh.
_ROLLED_BACK = 3
_AGAIN = "so this process ends: a new one begins where it ended"
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 5.0
_PASSING = {
    KafkaError._TRANSPORT,  # noqa: SLF001 - librdkafka's own codes are public in spite of the name
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - as above
    KafkaError._RESOLVE,  # noqa: SLF001 - as above
    KafkaError._TIMED_OUT,  # noqa: SLF001 - as above
    KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001 - as above; the group takes us back
}
_log = structlog.get_logger()


class Loop:
    """Turns raw events into payloads until told to stop.

    Args:
        consumer: of the raw topics, not yet subscribed.
        producer: of the same process.
        handler: what becomes of a raw event.
        metrics: where fates are counted, once they are committed.
        positions: shows how far it has come.
        clock: the time.
        flood: stops it where nearly everything becomes a dead letter.
        rewinds: what is read again because a person asked for it.
        batch_records: the most records of one transaction.
        batch_seconds: how long a batch waits to fill.
        around: what surrounds each transaction.
    """

    def __init__(
        self,
        consumer: Consumer,
        producer: TransactionalProducer,
        handler: Handler | TracedHandler,
        metrics: Metrics,
        positions: Positions,
        clock: Clock,
        flood: Flood,
        rewinds: Rewinds,
        *,
        batch_records: int,
        batch_seconds: float,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._consumer = consumer
        self._producer = producer
        self._handler = handler
        self._metrics = metrics
        self._positions = positions
        self._clock = clock
        self._flood = flood
        self._rewinds = rewinds
        self._batch_records = batch_records
        self._batch_seconds = batch_seconds
        self._around = around
        self._committed: dict[Place, int] = {}
        self._transactions = 0
        self._revoked: set[Place] = set()

    def run(self, topics: Sequence[str], stop: StopSignal, health: Health) -> None:
        """Read these topics until `stop`; a batch that was begun is finished.

        Raises:
            Fenced: a newer process with the same instance id has taken over.
            Stop: Kafka refuses something for good or rolls back again and again, or nearly everything becomes a dead
                letter.
        """
        with translated():
            self._consumer.subscribe(
                list(topics), on_assign=self._gained, on_revoke=self._lost, on_lost=self._lost
            )
        wait = _FIRST_WAIT
        rolled_back = transactions = 0
        while not stop.is_set():
            health.beat()
            try:
                self.turn()
            except RetryLater as passing:
                if self._transactions != transactions:
                    transactions, rolled_back = self._transactions, 0
                rolled_back += isinstance(passing, TransactionAborted)
                if rolled_back >= _ROLLED_BACK:
                    raise Stop(f"{rolled_back} transactions in a row were rolled back, {_AGAIN}") from passing
                _log.warning("retrying", reason=str(passing), seconds=wait)
                stop.wait(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                wait = _FIRST_WAIT

    def turn(self) -> None:
        """Read one batch and finish it; blocks for `batch_seconds` where there is little to read.

        Raises:
            RetryLater: what was not written will be read again.
        """
        self._revoked.clear()
        with translated():
            read = self._consumer.consume(self._batch_records, self._batch_seconds)
        messages = [message for message in read if message.error() is None or self._is_of_use(message)]
        if self._revoked:
            messages = self._without_revoked(messages)
        messages = self._without_moved(messages)
        del read
        # Each is taken from the end and freed once it is mapped: its memory, still in the processor's cache, is the
        # next one's.
        messages.reverse()
        read_to: dict[Place, int] = {}
        while messages:
            begun: dict[Place, int] = {}
            try:
                self._write(messages, begun, read_to)
            except RetryLater:
                self._seek(_firsts(reversed(messages), begun))
                raise
        if self._rewinds.active:
            self._seek(self._rewinds.settle(read_to))
        self._positions.show()

    def _write(self, messages: list[Message], first: dict[Place, int], read_to: dict[Place, int]) -> None:
        """One transaction with as many of the messages as fit into its time, from the end of the list.

        Args:
            messages: what is to be written; what was taken is gone from it.
            first: gets the first offset taken of each partition.
            read_to: gets one after the last.
        """
        tally = Tally()
        finished: dict[Place, int] = {}
        seen: set[Place] = set()
        records = 0
        flood, rewound = self._flood.batch(), self._rewinds.active
        handle, produce, now = self._handler.handle, self._producer.produce, self._clock.monotonic
        begun = now()
        with self._around(), self._rewinds.together(), self._producer.transaction():
            while messages and now() - begun <= _MAPPING_SECONDS:
                message = messages.pop()
                topic, partition = place = _place(message)
                offset, is_record = message.offset() or 0, message.error() is None
                if place not in first:
                    first[place] = offset
                reached = read_to[place] = offset + 1 if is_record else offset
                again, changed = rewound.get(place) if rewound else None, None
                if again is None:
                    finished[place] = reached  # where reading goes on; an end says it itself
                else:
                    fate = again.fate(offset, message.key(), record=is_record)
                    finished[place] = reached if fate is Fate.LIVE else again.live
                    if fate is Fate.PASS:
                        continue
                    if fate is Fate.AGAIN:
                        changed = again.again
                if is_record:
                    records += 1
                    if place not in seen:
                        seen.add(place)
                        self._positions.read((message,))
                    headers = headers_of(message)
                    output = handle(
                        RawEvent(topic, partition, offset, message.key(), message.value(), headers, changed)
                    )
                    produce(output.topic, output.key, output.value, output.headers)
                    if output.outcome == DEAD_LETTER:
                        flood.dead(records, topic, output.code)
                    tally.add(topic, output)
            self._rewinds.tell(finished)
            self._producer.send_offsets(
                [TopicPartition(topic, partition, offset) for (topic, partition), offset in finished.items()],
                self._consumer,
            )
            mapped = now()
        self._metrics.batch_seconds.labels("map").observe(mapped - begun)
        self._metrics.batch_seconds.labels("commit").observe(now() - mapped)
        self._transactions += 1
        flood.finish(records)
        tally.count(self._metrics)
        self._committed.update(finished)
        for place, offset in finished.items():
            self._positions.finished(place, offset)

    def _is_of_use(self, message: Message) -> bool:
        """Whether a message moves its partition's position: a record, or an end that was not committed yet.

        Raises:
            Stop: it is an error that does not pass.
        """
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
            # Transaction markers take offsets too: the end may lie beyond the last record, and lag must show 0.
            place = _place(message)
            return self._committed.get(place) != message.offset() or place in self._rewinds.active
        meaning = translate(error)
        if not isinstance(meaning, RetryLater):
            raise meaning
        if error.code() not in _PASSING and not error.retriable():
            raise Stop(str(meaning))
        _log.warning("kafka_error", reason=str(meaning))
        return False

    def _without_revoked(self, messages: Sequence[Message]) -> list[Message]:
        """The messages of partitions that stayed ours while they were read.

        The others may have been read before their partition left, and its next owner reads them. One that has left
        and come back begins again at its committed offset.

        Raises:
            Stop: as of `_seek`.
        """
        unsure = {place for message in messages if (place := _place(message)) in self._revoked}
        back = [TopicPartition(*place) for place in unsure & self._owned()]
        if back:
            try:
                committed = self._consumer.committed(back, timeout=_TIMEOUT)
            except KafkaException as error:
                raise _no_way_back(error) from error
            self._seek({(at.topic, at.partition): max(at.offset, 0) for at in committed})
        return [message for message in messages if _place(message) not in unsure]

    def _without_moved(self, messages: list[Message]) -> list[Message]:
        """The messages of partitions that no rewind begins or ends on; those of the others are read when it is their turn.

        Raises:
            RetryLater: what was asked can't be taken up now; all of these will be read again.
            Stop: as of `_seek`.
        """
        moved: set[Place] = set()
        try:
            self._rewinds.step(moved)
        except RetryLater:
            self._seek(_firsts(message for message in messages if _place(message) not in moved))
            raise
        return [message for message in messages if _place(message) not in moved] if moved else messages

    def _seek(self, offsets: Mapping[Place, int]) -> None:
        """Go on reading at these offsets, where the partition is ours.

        Raises:
            Stop: that can't be had; a new process begins at the committed offsets, and nothing is skipped.
        """
        owned = self._owned()
        try:
            for (topic, partition), offset in offsets.items():
                if (topic, partition) in owned:
                    self._consumer.seek(TopicPartition(topic, partition, offset))
        except KafkaException as error:
            raise _no_way_back(error) from error

    def _owned(self) -> set[Place]:
        with translated():
            return {(owned.topic, owned.partition) for owned in self._consumer.assignment()}

    def _gained(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        _log.info("partitions_gained", partitions=len(partitions))
        self._rewinds.gained()

    def _lost(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        _log.info("partitions_lost", partitions=len(partitions))
        for lost in partitions:
            self._revoked.add((lost.topic, lost.partition))
            self._committed.pop((lost.topic, lost.partition), None)
            self._rewinds.lost((lost.topic, lost.partition))
            self._positions.lost((lost.topic, lost.partition))


def _no_way_back(error: KafkaException) -> Stop:
    return Stop(f"can't read a batch again ({error.args[0].name()}): start the transformer again")


def _firsts(messages: Iterable[Message], known: dict[Place, int] | None = None) -> dict[Place, int]:
    """The first offset of each partition among those known and these messages, which are in order."""
    first = {} if known is None else known
    for message in messages:
        first.setdefault(_place(message), message.offset() or 0)
    return first


def _place(message: Message) -> Place:
    return message.topic(), message.partition()  # type: ignore[return-value]  # one that was read has both
