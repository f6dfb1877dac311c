"""What a loader does before its turn: it checks its surroundings, and keeps at hand what was delivered so far.

So a standby takes over in the seconds that Kafka needs to notice that the active loader is gone, however many
records were ever delivered.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir

import httpx
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from estarsync_core.clock import Clock
from estarsync_core.errors import ConfigurationError, RetryLater
from estarsync_core.topics import DELIVERED
from estarsync_runtime.dotdigital.client import DotdigitalClient
from estarsync_runtime.dotdigital.connect import connect
from estarsync_runtime.dotdigital.provisioning import Account, provision
from estarsync_runtime.kafka.config import consumer_config
from estarsync_runtime.kafka.errors import translate, translated
from estarsync_runtime.kafka.restore import partitions_of
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import KafkaSettings
from loader.ledger import Place
from loader.restore import rows_of, settled_states
from loader.settings import Settings
from loader.table import Table

_AT_ONCE = 5000
_TURN = 0.1


class Delivered:
    """Follows `estarsync.delivered.v1` into the table. For one thread.

    Args:
        settings: which Kafka.
        table: knows every key's settled state in the end.

    Raises:
        ConfigurationError: the topic is missing, or no broker answers.
    """

    def __init__(self, settings: KafkaSettings, table: Table) -> None:
        self._table = table
        self._consumer = Consumer(consumer_config(settings, "estarsync-loader-delivered"))
        try:
            found = partitions_of(self._consumer, [settings.topic(DELIVERED)])
            with translated():
                self._consumer.assign(found)
        except BaseException:
            self._consumer.close()
            raise
        self._places: dict[Place, int] = {(each.topic, each.partition): each.offset for each in found}
        self._at_end: set[Place] = set()

    def follow(self) -> None:
        """Take in what is new; doesn't wait for more.

        Raises:
            Stop: this user may not read the topic.
        """
        while self._take(0.0):
            if self._at_end.issuperset(self._places):
                return

    def catch_up(self, beat: Callable[[], None]) -> None:
        """Take in all there is; blocks.

        Args:
            beat: called now and then: we are alive.

        Raises:
            Stop: as of `follow`.
        """
        with translated():
            # Kafka says anew where each partition ends.
            self._consumer.assign([TopicPartition(*place, offset) for place, offset in self._places.items()])
        self._at_end.clear()
        while not self._at_end.issuperset(self._places):
            beat()
            self._take(_TURN)

    def close(self) -> None:
        """Let go of Kafka."""
        self._consumer.close()

    def _take(self, seconds: float) -> bool:
        with translated():
            messages = self._consumer.consume(_AT_ONCE, timeout=seconds)
        rows: list[Message] = []
        for message in messages:
            place = (message.topic() or "", message.partition() or 0)
            error = message.error()
            if error is None:
                rows.append(message)
                self._places[place] = (message.offset() or 0) + 1
                self._at_end.discard(place)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
                self._places[place] = message.offset() or 0
                self._at_end.add(place)
            elif not isinstance(meaning := translate(error), RetryLater):
                raise meaning
        if rows:
            with self._table.transaction():
                for entity, key, state in settled_states(rows_of(rows)):
                    if state is None:
                        self._table.forget(entity, key)
                    else:
                        self._table.settle(entity, key, state)
        return bool(messages)


@dataclass(frozen=True, slots=True)
class Standby:
    """A loader that is ready for its turn.

    Attributes:
        folder: where the backlog and the bodies are spooled.
        client: Dotdigital.
        account: the list and the collections, provisioned.
        table: with what was delivered so far.
        delivered: keeps the table up to date.
    """

    folder: Path
    client: DotdigitalClient
    account: Account
    table: Table
    delivered: Delivered


@contextmanager
def stand_by(
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    beat: Callable[[], None],
    transport: httpx.BaseTransport | None = None,
) -> Iterator[Standby]:
    """Check the account and the disk, and read what was delivered so far; blocks.

    Args:
        settings: all of them.
        clock: the time.
        metrics: what is shown.
        beat: called now and then: we are alive.
        transport: how Dotdigital is reached; None for the network.

    Raises:
        ConfigurationError: with every problem of the account or of the topic.
    """
    with ExitStack() as stack:
        folder = _folder(settings)
        client = stack.enter_context(connect(settings, clock, metrics, transport))
        account = provision(client, settings)
        beat()
        table = Table(folder)
        stack.callback(table.close)
        delivered = Delivered(settings, table)
        stack.callback(delivered.close)
        delivered.catch_up(beat)
        yield Standby(folder, client, account, table, delivered)


def _folder(settings: Settings) -> Path:
    """Where the backlog and the bodies are spooled. Their files have no names: nothing is left behind."""
    folder = settings.data_dir or Path(gettempdir())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            [
                f"DATA_DIR: cannot create {folder} ({error.strerror}); give a folder on a disk that takes the backlog"
            ]
        ) from error
    return folder
