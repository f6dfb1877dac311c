"""Leadership: of several processes with the same role one works, the others stand by.

The members of a consumer group agree on who holds a partition; here they agree on who holds the first partition of
the control topic, and read nothing. Its holder leads.

| what happens | what follows |
|---|---|
| the leader stops cleanly | it leaves the group; another one leads at once |
| the leader is killed, or cut off | its session times out after 7 s; another one leads |
| the leader's main loop hangs for five minutes | it is put out of the group; another one leads |
| a process starts while another one leads | it waits; the strategy is sticky, so that nobody is pushed out |

Membership says who may begin. It can't stop a leader that was frozen and doesn't know yet that it has been
replaced: the transactional producer does. So a new leader makes its producer *after* its election, which fences the
old one's, and only then reads what the old one wrote.
"""

from collections.abc import Callable
from typing import Protocol

import structlog
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from estarsync_core.errors import ConfigurationError, Fenced, RetryLater
from estarsync_core.topics import CONTROL
from estarsync_runtime.health import Health
from estarsync_runtime.kafka.config import consumer_config
from estarsync_runtime.kafka.errors import translate, translated
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import KafkaSettings

_SEAT = 0  # the partition that only one member can hold
_LOOK = 0.2
_SESSION_MS = 7_000  # with a heartbeat of the others it is noticed within 8 s
_HEARTBEAT_MS = 1_000
_STALL_MS = 300_000  # as long as Health gives the main loop
_DENIED = {
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}
_log = structlog.get_logger()


class LeadershipLost(RetryLater):
    """This process may no longer be the leader: let go of everything, and wait for another turn."""


class StopFlag(Protocol):
    """What says that the process should end."""

    def is_set(self) -> bool:
        """Whether it should."""
        ...


class Leadership:
    """One process's seat among those with the same role. Not safe to use from several threads.

    It stands for election from the first call of `wait` on. Then call `check` in every turn of the main loop: that
    is what shows the others that this one is not stuck. A turn may take up to five minutes.

    Args:
        settings: how to reach Kafka.
        service: the role, such as `extractor`.
        metrics: says who leads.
    """

    def __init__(self, settings: KafkaSettings, service: str, metrics: Metrics) -> None:
        self._service = service
        self._shown = metrics.leader.labels(service)
        self._topic = settings.topic(CONTROL)
        self._seated = False
        self._leading = False  # seated without a break since `wait` said so
        self._led = False
        self._answered = False  # whether the group has said who holds what, since the last loss
        self._show()
        group = f"estarsync-{service}-leader"
        config = {
            **consumer_config(settings, group),
            # Sticky, and without taking everything away first: a newcomer must not unseat the leader.
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": _SESSION_MS,
            "heartbeat.interval.ms": _HEARTBEAT_MS,
            "max.poll.interval.ms": _STALL_MS,
            "enable.partition.eof": False,
        }
        self._consumer = Consumer(config)
        self._stands = False

    @property
    def held(self) -> bool:
        """Whether this process leads, as far as it knows."""
        return self._leading

    def wait(self, stop: StopFlag, health: Health, meanwhile: Callable[[], None] | None = None) -> bool:
        """Block until this process leads (true), or is told to stop (false). A standby is ready, and beats.

        Args:
            stop: looked at several times a second.
            health: beats meanwhile.
            meanwhile: called several times a second while another one leads.

        Raises:
            Fenced: this process led before, and now another one does: let it end and start afresh.
            ConfigurationError: Kafka does not let it, or the control topic is missing.
        """
        self._stand()
        told = False
        while not stop.is_set():
            health.beat()
            self._poll(_LOOK)
            if self._seated:
                if not self._leading:
                    _log.info("leading", service=self._service)
                self._leading = self._led = True
                return True
            if not self._answered:
                continue
            if self._led:
                raise Fenced(
                    "another process with the same role leads now; start this one again: it stands by"
                )
            health.ready = True
            if not told:
                told = True
                _log.info("standing_by", service=self._service)
            if meanwhile is not None:
                meanwhile()
        return False

    def check(self) -> None:
        """Say that the main loop is turning; doesn't block.

        Raises:
            LeadershipLost: another process may lead by now: write nothing more.
        """
        self._poll(0.0)
        if not self._leading:
            raise LeadershipLost("Kafka has not heard of this process for too long; another one may lead now")

    def close(self) -> None:
        """Leave, so that another one leads at once; call it after everything has been written."""
        self._seated = self._leading = False
        self._show()
        self._consumer.close()

    def _stand(self) -> None:
        # Not before somebody waits: a member that doesn't poll could be given the seat, and would not know.
        if not self._stands:
            with translated():
                self._consumer.subscribe(
                    [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
                )
            self._stands = True

    def _poll(self, seconds: float) -> None:
        with translated():
            message = self._consumer.poll(seconds)
        while message is not None:
            self._look_at(message)
            with translated():
                message = self._consumer.poll(0.0)

    def _look_at(self, message: Message) -> None:
        error = message.error()
        if error is None:
            return  # fetched in the moment before the pause
        if error.code() in _DENIED:
            group = f"estarsync-{self._service}-leader"
            remedy = f"run `estarsync topics apply`, and let this user read it and join the group {group}"
            raise ConfigurationError([f"Kafka refuses a seat at {self._topic} ({error.name()}): {remedy}"])
        if error.code() == KafkaError._MAX_POLL_EXCEEDED:  # noqa: SLF001 - librdkafka's own code
            self._lose()
        elif error.fatal():
            raise translate(error)
        else:
            _log.warning("kafka_error", reason=error.name())

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        with translated():
            consumer.incremental_assign(partitions)
            consumer.pause(partitions)  # it is a seat: nothing is read
        self._answered = True
        if any(each.partition == _SEAT for each in partitions):
            self._seated = True
        self._show()

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        if any(each.partition == _SEAT for each in partitions):
            self._lose()

    def _lose(self) -> None:
        if self._leading:
            _log.warning("leadership_lost", service=self._service)
        self._seated = self._leading = self._answered = False
        self._show()

    def _show(self) -> None:
        self._shown.set(float(self._seated))
