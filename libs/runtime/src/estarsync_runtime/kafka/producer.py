"""A producer whose every write belongs to a transaction."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from estarsync_core.clock import Clock
from estarsync_core.errors import EstarsyncError, RetryLater, Stop
from estarsync_core.headers import RawHeaders
from estarsync_runtime.kafka.errors import TransactionAborted, translate, translated
from estarsync_runtime.kafka.watchdog import Watchdog
from estarsync_runtime.metrics import Metrics

_CALL_TIMEOUT = 15.0
_INIT_TIMEOUT = 60.0
_GRACE = 15.0  # beyond a call's own time-out, after which it will never come back
# What librdkafka says to an abort while a commit that timed out may still happen.
_STUCK = {KafkaError._STATE, KafkaError._CONFLICT}  # noqa: SLF001 - librdkafka's own codes are public in spite of the name
_log = structlog.get_logger()


class TransactionalProducer:
    """Writes records, all or nothing. A call that Kafka's client never comes back from ends the process.

    Construction blocks until the broker has fenced every older producer with the same transactional id and
    aborted what it left open (at most about a minute).

    Args:
        config: librdkafka's, with `transactional.id`.
        clock: for waiting between two tries.
        metrics: where the time of transactions is shown.

    Raises:
        RetryLater: the broker does not answer.
    """

    def __init__(self, config: dict[str, Any], clock: Clock, metrics: Metrics | None = None) -> None:
        self._clock = clock
        self._seconds = None if metrics is None else metrics.transactions
        self._unfinished = False
        self._watchdog = Watchdog()
        with translated():
            self._producer = Producer(config)
            self._retrying(
                "init_transactions", lambda: self._producer.init_transactions(_INIT_TIMEOUT), _INIT_TIMEOUT
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything produced inside becomes visible together at the end, or not at all.

        Raises:
            TransactionAborted: it was rolled back; the same work may be done again.
            Fenced: a newer producer has taken over.
            Stop: the producer can't go on.
        """
        if self._unfinished:
            self._abort()
        begun = self._clock.monotonic()
        with translated():
            self._producer.begin_transaction()
        try:
            yield
            self._commit()
            self._observe("committed", begun)
        except BaseException:
            self._observe("failed", begun)
            self._unfinished = True
            try:
                self._abort()
            except EstarsyncError as error:
                # The reason is already on its way up. The next transaction begins by trying this again.
                _log.warning("abort_failed", reason=str(error))
            raise

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: RawHeaders | None = None
    ) -> None:
        """Add a record to the open transaction; blocks while the send buffer is full."""
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers)  # type: ignore[arg-type]  # bytes are fine
            except BufferError:
                self._producer.poll(0.05)
            except KafkaException as error:
                raise self._meaning(error.args[0]) from error
            else:
                return

    def send_offsets(self, offsets: Sequence[TopicPartition], consumer: Consumer) -> None:
        """Make the consumer's progress part of the open transaction."""
        try:
            group = consumer.consumer_group_metadata()
            self._retrying(
                "send_offsets_to_transaction",
                lambda: self._producer.send_offsets_to_transaction(list(offsets), group, _CALL_TIMEOUT),
                _CALL_TIMEOUT,
            )
        except KafkaException as error:
            raise self._meaning(error.args[0]) from error

    def _observe(self, outcome: str, begun: float) -> None:
        if self._seconds is not None:
            self._seconds.labels(outcome).observe(self._clock.monotonic() - begun)

    def _commit(self) -> None:
        try:
            self._retrying(
                "commit_transaction", lambda: self._producer.commit_transaction(_CALL_TIMEOUT), _INIT_TIMEOUT
            )
        except KafkaException as error:
            raise self._meaning(error.args[0]) from error

    def _abort(self) -> None:
        try:
            self._retrying(
                "abort_transaction", lambda: self._producer.abort_transaction(_CALL_TIMEOUT), _CALL_TIMEOUT
            )
        except KafkaException as error:
            if error.args[0].code() in _STUCK:
                raise Stop("the fate of a transaction is unknown: start again, which settles it") from error
            raise translate(error.args[0]) from error
        self._unfinished = False

    def _retrying(self, what: str, call: Callable[[], object], budget: float) -> None:
        deadline = self._clock.monotonic() + budget
        while True:
            try:
                with self._watchdog.over(what, max(budget, _CALL_TIMEOUT) + _GRACE):
                    call()
            except KafkaException as error:
                if not error.args[0].retriable() or self._clock.monotonic() > deadline:
                    raise
                self._clock.sleep(0.1)
            else:
                return

    @staticmethod
    def _meaning(error: KafkaError) -> Exception:
        if error.txn_requires_abort():
            return TransactionAborted(f"Kafka rolled the transaction back: {error.str()} ({error.name()})")
        meaning = translate(error)
        return TransactionAborted(str(meaning)) if isinstance(meaning, RetryLater) else meaning
