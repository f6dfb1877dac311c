"""One page: some ids of one entity, read with all that belongs to them, and what that means for the raw topic."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from estarsync_core.control import Blocked
from estarsync_core.entities import Entity
from estarsync_core.estar.changes import Changes, Row, Rules, changes, touched_keys
from estarsync_core.estar.content import Record
from estarsync_core.estar.grouping import Grouped, withhold
from estarsync_runtime.kafka.config import MAX_MESSAGE_BYTES
from estarsync_runtime.tracing import OFF, Tracing, parent_and_links
from extractor.fetch import NOT_RETURNED, Fetched
from extractor.state import SourceState

MAX_VALUE_BYTES = MAX_MESSAGE_BYTES - 65_536
"""The largest value: what Kafka takes, less room for the key and the headers."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page publishes and remembers.

    Attributes:
        changes: its events, rows, and the records without a usable key.
        failed: ids that can't be read, with the code of the reason.
        read: how many records were read.
        members: the names of all that was read, with and without a key.
        attempt: how often its records have been dead letters before.
        trace: the `traceparent` of the span that has read it, where there is one.
    """

    changes: Changes
    failed: dict[str, str]
    read: int
    members: frozenset[str] = frozenset()
    attempt: int = 0
    trace: bytes | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """What is particular to an entity.

    Attributes:
        entity: which.
        size: how many ids make a page.
        fetch: reads source records by id, with their relatives if they have any.
        group: makes groups of them.
        rules: how its changes are published.
        source_id: the source record's id in a member's name.
        forgets: whether a record that the shop no longer returns leaves its key.
    """

    entity: Entity
    size: int
    fetch: Callable[[Sequence[str]], Fetched]
    group: Callable[[Mapping[str, Record]], Grouped]
    rules: Rules
    source_id: Callable[[str], str] = str
    forgets: bool = True


class PageReader:
    """Reads pages of one entity. It reads the state and doesn't change it.

    Args:
        kind: what is particular to the entity.
        state: what was published before.
        blocked: the e-mails of which nothing is published.
        tracing: where a read page is shown.
    """

    def __init__(self, kind: Kind, state: SourceState, blocked: Blocked, tracing: Tracing = OFF) -> None:
        self.kind = kind
        self._state = state
        self._blocked = blocked
        self._tracing = tracing

    def read(
        self,
        ids: Sequence[str],
        *,
        force: bool = False,
        redriven: bool = False,
        causes: Sequence[bytes] = (),
    ) -> Page:
        """Read these ids and every record that shares a key with one of them, now or before; blocks.

        Args:
            ids: the shop's.
            force: publish also what has not changed.
            redriven: tell again of records that still can't be used.
            causes: the `traceparent` of what made somebody ask.

        Raises:
            RetryLater: the shop is in trouble; nothing is known about the ids.
        """
        entity = self.kind.entity
        parent, links = parent_and_links(causes)
        facts = {"estarsync.entity": entity.value, "estarsync.ids": len(ids)}
        with self._tracing.span(f"fetch {entity}", facts, parent=parent, links=links) as span:
            page = self._read(ids, force=force, redriven=redriven)
            span.tell({"estarsync.records": page.read, "estarsync.failed": len(page.failed)})
            return replace(page, trace=span.traceparent)

    def _read(self, ids: Sequence[str], *, force: bool, redriven: bool) -> Page:
        kind = self.kind
        found = kind.fetch(ids)
        records, failed = dict(found.records), dict(found.failed)
        gone: set[str] = set()
        while True:
            grouped = withhold(kind.group(records), self._blocked)
            before = self._before(grouped, gone)
            known = records.keys() | failed.keys() | gone
            wanted = sorted({kind.source_id(member) for member in before} - known)
            if not wanted:
                found_changes = changes(grouped, gone, before, kind.rules, force=force, redriven=redriven)
                return Page(found_changes, failed, len(records), frozenset(grouped.members))
            found = kind.fetch(wanted)
            records.update(found.records)
            for identity, code in found.failed.items():
                if kind.forgets and code == NOT_RETURNED:
                    gone.add(identity)
                else:
                    failed[identity] = code

    def _before(self, grouped: Grouped, gone: set[str]) -> dict[str, Row]:
        entity = self.kind.entity
        own = self._state.rows(entity, grouped.members | gone)
        return {**own, **self._state.members(entity, touched_keys(grouped, own))}
