"""Reads the typed topics; where a loader starts far behind, what is new is read beside the backlog and not after it.

A topic holds both lanes, and a million records take minutes to read. So that a live record need not wait for them, one
consumer begins where each partition ends at the start, and another reads the backlog up to there, then closes. Every
record is read once. That newer records of a key may come before older ones is nothing new to the pending table: the
version decides, never the order.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

import structlog
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from estarsync_runtime.kafka.errors import translated
from estarsync_runtime.kafka.patience import patiently
from loader.ledger import Place

_TIMEOUT = 15.0
FAR_BEHIND = 5000
"""Records of a backlog that is worth a consumer of its own; fewer are read in a second or two."""
_log = structlog.get_logger()


class Source(Protocol):
    """A consumer whose partitions are assigned: Kafka's, or a fake."""

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        """The next records and events; blocks for at most `timeout` seconds."""
        ...

    def pause(self, partitions: list[TopicPartition]) -> None:
        """Read nothing of these partitions."""
        ...

    def resume(self, partitions: list[TopicPartition]) -> None:
        """Read them again."""
        ...

    def close(self) -> None:
        """Let go of Kafka."""
        ...


class Reader:
    """Reads what is new and, beside it, a backlog. For one thread.

    Args:
        new: reads what is new; whoever made it closes it.
        backlog: reads the backlog; it is closed here. None where there is none.
        unread: for each partition that has a backlog, the offsets where that begins and ends.
    """

    def __init__(
        self,
        new: Source,
        backlog: Source | None = None,
        unread: Mapping[Place, tuple[int, int]] | None = None,
    ) -> None:
        self._new = new
        self._backlog = backlog
        self._unread = dict(
            unread or {}
        )  # as of the last turn: whoever reads has not taken in this one's records yet
        self._spans = dict(self._unread)
        self._at_end: dict[Place, Message] = {}  # of what is new, while a backlog is unread
        self._found: list[Message] = []

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        """The next records and events, half of them from the backlog at least; blocks for `timeout` seconds at most.

        The end of a partition is told once its backlog was read, too.
        """
        self._unread = dict(self._spans)
        if self._backlog is None:
            return self._new.consume(num_messages, timeout)
        # Kept here until the other one has answered, too: it may raise.
        self._found += self._of_new(self._new.consume(max(1, num_messages // 2), 0.0))
        rest = max(1, num_messages - len(self._found))
        self._found += self._of_backlog(self._backlog.consume(rest, 0.0 if self._found else timeout))
        if not self._spans:
            self.close()
            _log.info("backlog_read")
        found, self._found = self._found, []
        return found

    def unread(self, place: Place) -> int | None:
        """Where the part of a partition's backlog begins that was not given yet before the last records were.

        None where there was none.
        """
        span = self._unread.get(place)
        return None if span is None else span[0]

    def pause(self, partitions: list[TopicPartition]) -> None:
        """Read nothing of these partitions."""
        self._new.pause(partitions)
        if self._backlog is not None and (here := self._with_backlog(partitions)):
            self._backlog.pause(here)

    def resume(self, partitions: list[TopicPartition]) -> None:
        """Read them again."""
        self._new.resume(partitions)
        if self._backlog is not None and (here := self._with_backlog(partitions)):
            self._backlog.resume(here)

    def close(self) -> None:
        """Let go of the backlog."""
        if self._backlog is not None:
            self._backlog.close()
            self._backlog = None

    def _with_backlog(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        return [each for each in partitions if (each.topic, each.partition) in self._spans]

    def _of_new(self, messages: Sequence[Message]) -> list[Message]:
        found = []
        for message in messages:
            place = _place(message)
            if place in self._spans and _is_end(message):
                self._at_end[place] = message
                continue
            if message.error() is None:
                self._at_end.pop(place, None)
            found.append(message)
        return found

    def _of_backlog(self, messages: Sequence[Message]) -> list[Message]:
        found = []
        for message in messages:
            place = _place(message)
            if message.error() is not None and not _is_end(message):
                found.append(message)
                continue
            if place not in self._spans:
                continue
            begin, end = self._spans[place]
            offset = message.offset() or 0
            if offset < end and message.error() is None:
                found.append(message)
                begin = offset + 1
            # The last offsets may be a transaction's marks, which nobody gets to see.
            if max(offset, begin) >= end:
                found += self._read_up(place)
            else:
                self._spans[place] = (begin, end)
        return found

    def _read_up(self, place: Place) -> list[Message]:
        """A partition's backlog is over; gives the end of the partition, where that was reached meanwhile."""
        del self._spans[place]
        if self._backlog is not None:
            self._backlog.pause([TopicPartition(*place)])
        end = self._at_end.pop(place, None)
        return [] if end is None else [end]


@contextmanager
def reading(
    new: Consumer, begin: Sequence[TopicPartition], another: Callable[[], Consumer], far: int = FAR_BEHIND
) -> Iterator[Reader]:
    """A reader of these partitions. Blocks while Kafka says where each of them ends.

    Args:
        new: a consumer; its partitions are assigned here.
        begin: all partitions, each with the offset to read from, which may be Kafka's word for the beginning.
        another: makes a consumer for a backlog.
        far: how many records make a backlog.

    Raises:
        RetryLater: Kafka does not answer.
    """
    spans: dict[Place, tuple[int, int]] = {}
    for each in begin:
        place = each.topic, each.partition
        low, high = patiently(partial(new.get_watermark_offsets, TopicPartition(*place), timeout=_TIMEOUT))
        spans[place] = (max(each.offset, low), high)
    behind = {place: (low, high) for place, (low, high) in spans.items() if low < high}
    if sum(high - low for low, high in behind.values()) < far:
        with translated():
            new.assign(list(begin))
        yield Reader(new)
        return
    _log.info("backlog", records=sum(high - low for low, high in behind.values()))
    backlog = another()
    with translated():
        backlog.assign([TopicPartition(*place, low) for place, (low, _) in behind.items()])
        new.assign([TopicPartition(*place, high) for place, (_, high) in spans.items()])
    reader = Reader(new, backlog, behind)
    try:
        yield reader
    finally:
        reader.close()


def _place(message: Message) -> Place:
    return (message.topic() or "", message.partition() or 0)


def _is_end(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF  # noqa: SLF001 - librdkafka's own code
