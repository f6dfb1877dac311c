"""Reading what is new beside a backlog, with consumers that give what they are told."""

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from loader.reader import Reader

PLACE = ("t", 0)


class Source:
    """Gives one list after the other; an error is raised."""

    def __init__(self, *turns: list[Message] | Exception) -> None:
        self._turns = list(turns)
        self.asked: list[tuple[int, float]] = []
        self.paused: set[tuple[str, int]] = set()
        self.closed = False

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        self.asked.append((num_messages, timeout))
        turn = self._turns.pop(0) if self._turns else []
        if isinstance(turn, Exception):
            raise turn
        return turn

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.paused |= {(each.topic, each.partition) for each in partitions}

    def resume(self, partitions: list[TopicPartition]) -> None:
        self.paused -= {(each.topic, each.partition) for each in partitions}

    def close(self) -> None:
        self.closed = True


def record(offset: int, partition: int = 0) -> Message:
    return Message(topic="t", partition=partition, offset=offset, key=b"k", value=b"v")


def event(code: int, offset: int = -1, partition: int = 0) -> Message:
    return Message(topic="t", partition=partition, offset=offset, error=KafkaError(code))


def end(offset: int, partition: int = 0) -> Message:
    return event(KafkaError._PARTITION_EOF, offset, partition)


def said(messages: list[Message]) -> list[tuple[int | None, bool]]:
    """Offsets, and whether each is the end."""
    return [(each.offset(), each.error() is not None) for each in messages]


def test_without_a_backlog_it_is_the_consumer_itself():
    source = Source([record(7)])
    reader = Reader(source)
    assert said(reader.consume(500, 0.5)) == [(7, False)]
    assert source.asked == [(500, 0.5)]
    assert reader.unread(PLACE) is None


def test_what_is_new_comes_first_and_takes_half():
    new, backlog = Source([record(10)]), Source([record(0), record(1)])
    reader = Reader(new, backlog, {PLACE: (0, 10)})
    assert said(reader.consume(500, 0.5)) == [(10, False), (0, False), (1, False)]
    assert new.asked == [(250, 0.0)]
    assert backlog.asked == [(499, 0.0)]


def test_it_waits_where_there_is_nothing():
    new, backlog = Source(), Source()
    Reader(new, backlog, {PLACE: (0, 10)}).consume(500, 0.5)
    assert (new.asked, backlog.asked) == ([(250, 0.0)], [(500, 0.5)])


def test_a_record_counts_as_read_once_the_next_ones_are_asked_for():
    reader = Reader(Source(), Source([record(4)], []), {PLACE: (3, 10)})
    reader.consume(500, 0.0)
    assert reader.unread(PLACE) == 3
    reader.consume(500, 0.0)
    assert reader.unread(PLACE) == 5


def test_the_backlog_ends_where_what_is_new_began():
    new, backlog = Source(), Source([record(8), record(9), record(10)])
    reader = Reader(new, backlog, {PLACE: (8, 10)})
    assert said(reader.consume(500, 0.0)) == [(8, False), (9, False)]
    assert backlog.closed
    assert backlog.paused == {PLACE}
    reader.consume(500, 0.5)
    assert reader.unread(PLACE) is None
    assert new.asked[-1] == (500, 0.5)


def test_a_transactions_mark_may_be_the_last_of_the_backlog():
    reader = Reader(Source(), backlog := Source([record(8), end(10)]), {PLACE: (8, 10)})
    assert said(reader.consume(500, 0.0)) == [(8, False)]
    assert backlog.closed


def test_an_end_before_the_backlogs_is_none():
    # A transaction is still open: what comes after it can't be read yet.
    reader = Reader(Source(), backlog := Source([record(8), end(9)]), {PLACE: (8, 10)})
    reader.consume(500, 0.0)
    assert not backlog.closed


def test_the_end_is_told_after_the_backlog():
    new, backlog = Source([end(10)]), Source([record(8)], [record(9)])
    reader = Reader(new, backlog, {PLACE: (8, 10)})
    assert said(reader.consume(500, 0.0)) == [(8, False)]
    assert said(reader.consume(500, 0.0)) == [(9, False), (10, True)]


def test_an_end_that_is_none_any_more_is_not_told():
    new, backlog = Source([end(10)], [record(10)]), Source([], [record(9)])
    reader = Reader(new, backlog, {PLACE: (9, 10)})
    assert said(reader.consume(500, 0.0)) == []
    assert said(reader.consume(500, 0.0)) == [(10, False), (9, False)]


def test_a_partition_without_a_backlog_tells_its_end_at_once():
    reader = Reader(Source([end(3, partition=1)]), Source(), {PLACE: (0, 10)})
    assert said(reader.consume(500, 0.0)) == [(3, True)]


def test_nothing_is_lost_where_the_backlog_can_not_be_read():
    new = Source([record(10)], [record(11)])
    backlog = Source(KafkaException(KafkaError(KafkaError._TRANSPORT)), [record(0)])
    reader = Reader(new, backlog, {PLACE: (0, 10)})
    with pytest.raises(KafkaException):
        reader.consume(500, 0.0)
    assert said(reader.consume(500, 0.0)) == [(10, False), (11, False), (0, False)]


def test_errors_are_handed_on():
    trouble = event(KafkaError._ALL_BROKERS_DOWN)
    reader = Reader(Source([trouble]), Source([trouble]), {PLACE: (0, 10)})
    assert reader.consume(500, 0.0) == [trouble, trouble]


def test_pausing_holds_for_both_and_only_for_what_has_a_backlog():
    new, backlog = Source(), Source([record(9)])
    reader = Reader(new, backlog, {PLACE: (9, 10), ("t", 2): (0, 5)})
    everything = [TopicPartition("t", number) for number in range(3)]
    reader.pause(everything)
    assert (len(new.paused), backlog.paused) == (3, {PLACE, ("t", 2)})
    reader.consume(500, 0.0)  # the first partition's is over
    reader.resume(everything)
    assert (new.paused, backlog.paused) == (set(), {PLACE})
