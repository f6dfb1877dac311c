"""What became of a batch's records, counted once it is committed: a rolled back batch counts for nothing."""

from collections import Counter

import structlog

from estarsync_core.entities import Entity
from estarsync_runtime.metrics import Metrics
from transformer.handler import DEAD_LETTER, Output

_log = structlog.get_logger()


class Tally:
    """The counts of one transaction."""

    def __init__(self) -> None:
        self._entities: dict[str, Entity] = {}
        self._outcomes: dict[tuple[str, str], int] = {}
        self._dead: Counter[tuple[str, str]] = Counter()
        self._dropped: Counter[tuple[Entity, str, str]] = Counter()

    def add(self, topic: str, output: Output) -> None:
        """Note what a record of an input topic has become."""
        outcome = output.outcome
        kind = topic, outcome
        try:
            self._outcomes[kind] += 1
        except KeyError:
            self._outcomes[kind] = 1
            self._entities[topic] = output.entity
        if outcome == DEAD_LETTER:
            self._dead[topic, output.code] += 1
        if output.dropped:
            for field, code in output.dropped:
                self._dropped[output.entity, field, code] += 1

    def count(self, metrics: Metrics) -> None:
        """Add everything to the metrics, and log the dead letters by reason."""
        for (topic, outcome), number in self._outcomes.items():
            metrics.transformed.labels(self._entities[topic], outcome).inc(number)
        for (topic, code), number in self._dead.items():
            metrics.dead_letters.labels(topic, code).inc(number)
            _log.warning("dead_letters", topic=topic, code=code, records=number)
        for dropped, number in self._dropped.items():
            metrics.dropped_fields.labels(*dropped).inc(number)
