"""The disk is bounded: where the backlog is about to fill it, reading pauses, and delivery goes on.

Orders and products pause first. Contacts wait for nobody, and orders wait for them: if all paused at once, the table
could be full of orders whose contacts are still unread, and nothing would ever leave it.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog
from confluent_kafka import TopicPartition

from estarsync_runtime.metrics import Metrics
from loader.ledger import Place

_RESUME = 0.9  # of what made it pause: not with every record anew
_OTHERS, _CONTACTS = 0.75, 0.9  # of the bound; the rest is for bodies, reports and what is settled meanwhile
_log = structlog.get_logger()


class Pausable(Protocol):
    """A consumer whose partitions can be paused."""

    def pause(self, partitions: list[TopicPartition]) -> None:
        """Read nothing of these partitions."""
        ...

    def resume(self, partitions: list[TopicPartition]) -> None:
        """Read them again."""
        ...


@dataclass(slots=True)
class _Group:
    """Partitions that pause together."""

    name: str
    places: list[TopicPartition]
    share: float
    paused: bool = False


class Disk:
    """Pauses and resumes reading.

    Args:
        bound: bytes that the backlog and the bodies may take.
        folder: where they are; what is free there is a bound, too.
        used: what they take.
        consumer: of the typed topics.
        contacts: the partitions of contacts.
        others: all others.
        metrics: what is shown.
    """

    def __init__(
        self,
        bound: int,
        folder: Path,
        used: Callable[[], int],
        consumer: Pausable,
        contacts: Sequence[Place],
        others: Sequence[Place],
        metrics: Metrics,
    ) -> None:
        self._bound = bound
        self._folder = folder
        self._used = used
        self._consumer = consumer
        self._metrics = metrics
        self._groups = [
            _Group("contacts", [TopicPartition(*each) for each in contacts], _CONTACTS),
            _Group("products and orders", [TopicPartition(*each) for each in others], _OTHERS),
        ]
        metrics.reading_paused.set(0)

    def step(self) -> None:
        """Pause what must not be read now, resume what may be read again. Does not block."""
        used = self._used()
        disk = os.statvfs(self._folder)
        bound = min(self._bound, used + disk.f_bavail * disk.f_frsize)
        for group in self._groups:
            most = bound * group.share * (_RESUME if group.paused else 1.0)
            if (used >= most) is group.paused:
                continue
            group.paused = not group.paused
            self._metrics.reading_paused.set(any(each.paused for each in self._groups))
            if group.paused:
                self._consumer.pause(group.places)
                _log.warning(
                    "reading_paused",
                    what=group.name,
                    bytes_used=used,
                    bound=bound,
                    do="give DATA_DIR more space",
                )
            else:
                self._consumer.resume(group.places)
                _log.info("reading_resumed", what=group.name, bytes_used=used)
