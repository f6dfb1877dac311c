"""What a complete snapshot no longer holds leaves the raw topic, behind the brake."""

from collections.abc import Callable, Collection, Mapping
from itertools import islice
from typing import TypeVar

import msgspec
import structlog

from estarsync_core.entities import Entity, Lane, Reason
from estarsync_core.errors import Stop
from estarsync_core.estar.changes import Changes, Event
from estarsync_core.estar.checkpoint import FeedMark
from estarsync_core.estar.removal import Approval, Hold, approval_key, hold_key, is_approved, may_remove
from estarsync_core.topics import CONTROL
from estarsync_runtime.kafka.restore import read_topics
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import KafkaSettings
from extractor.pages import Page
from extractor.publisher import Publisher
from extractor.state import SourceState

T = TypeVar("T")
Word = tuple[Hold | None, Approval | None]
ReadWord = Callable[[], Word]
_AT_ONCE = 1000
_SAMPLE = 10
_log = structlog.get_logger()


def nobody_spoke() -> Word:
    """No hold and no approval."""
    return None, None


def read_word(settings: KafkaSettings, entity: Entity) -> Word:
    """The hold and the approval as the control topic has them; blocks.

    Raises:
        RetryLater: Kafka does not answer.
        Stop: a record can't be read.
    """
    keys = {hold_key(entity): b"", approval_key(entity): b""}
    for message in read_topics(settings, [settings.topic(CONTROL)]):
        key = (message.key() or b"").decode("utf-8", "replace")
        if key in keys:
            keys[key] = message.value() or b""
    return _decoded(keys[hold_key(entity)], Hold), _decoded(keys[approval_key(entity)], Approval)


def _decoded(value: bytes, kind: type[T]) -> T | None:
    if not value:
        return None
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.DecodeError as error:
        raise Stop(f"{CONTROL} holds a removals record that estarsync did not write: remove it") from error


class Removals:
    """Finds and removes what one entity's snapshot lacks.

    Args:
        entity: whose snapshots.
        state: what was published, and what the running snapshot has shown of it.
        publisher: writes.
        read_word: the hold and the approval as they are now.
        metrics: what is shown.
    """

    def __init__(
        self, entity: Entity, state: SourceState, publisher: Publisher, read_word: ReadWord, metrics: Metrics
    ) -> None:
        self._entity = entity
        self._state = state
        self._publisher = publisher
        self._read_word = read_word
        self._metrics = metrics
        self._may_be_held = True

    def begin(self) -> None:
        """A snapshot begins: nothing has been seen."""
        self._state.forget_seen(self._entity)

    def saw(self, page: Page, listed: Collection[str]) -> None:
        """A page of the snapshot was read; what is listed and can't be read is not gone."""
        self._state.see(self._entity, page.members)
        for identity in page.failed.keys() & set(listed):
            self._state.see_source(self._entity, identity)

    def saw_before(self, identity: str) -> bool:
        """Whether a record is remembered; then the snapshot counts as having shown all that is remembered of it."""
        return self._state.see_source(self._entity, identity)

    def finish(self, lane: Lane, marks: Mapping[str, FeedMark], name: str, *, empty: bool) -> None:
        """The snapshot is complete: remove what it lacks, or hold that back, and commit the feed's progress.

        Raises:
            PublishFailed: it is not all written; the next snapshot does the rest.
        """
        entity = self._entity
        keys = self._state.vanished_keys(entity)
        published = self._state.count_keys(entity)
        hold, approval = self._read_word() if keys or self._may_be_held else (None, None)
        free = may_remove(len(keys), published, empty=empty)
        if not free and not is_approved(len(keys), hold, approval):
            identity = marks[name].cursor.isoformat() if hold is None else hold.id
            held = Hold(identity, len(keys), published, tuple(sorted(keys)[:_SAMPLE]))
            self._publisher.commit(
                entity, lane, _nothing(), marks, control={hold_key(entity): msgspec.json.encode(held)}
            )
            self._show(len(keys))
            _log.error(
                "removals_held",
                entity=entity,
                vanishing=len(keys),
                published=published,
                do="look at the shop; if they are really gone: estarsync removals approve",
            )
            return
        self._remove(lane, keys)
        control = {} if hold is None else {hold_key(entity): None}
        self._publisher.commit(entity, lane, _nothing(), marks, control=control)
        self._show(0)

    def _remove(self, lane: Lane, keys: Collection[str]) -> None:
        waiting = iter(sorted(keys))
        while part := list(islice(waiting, _AT_ONCE)):
            members = self._state.members(self._entity, part)
            events = [Event(key, None, Reason.REMOVED) for key in part]
            self._publisher.commit(
                self._entity, lane, Page(Changes(events, dict.fromkeys(members)), {}, 0), {}
            )
        if keys:
            _log.info("removed", entity=self._entity, keys=len(keys))
        # Records that left a key which others still have, or that never had one.
        rest = dict.fromkeys(self._state.vanished(self._entity))
        if rest:
            self._publisher.commit(self._entity, lane, Page(Changes(rows=dict(rest)), {}, 0), {})

    def _show(self, held: int) -> None:
        self._may_be_held = held > 0
        self._metrics.removals_held.labels(self._entity).set(held)


def _nothing() -> Page:
    return Page(Changes(), {}, 0)
