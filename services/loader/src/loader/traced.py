"""Imports with their traces: each record's context says which page it was read with; an import holds many of them.

The import has a span of its own, from the PUT to the report. Each context of its records, up to a limit, gets a span in
its own trace, from when the batch was ready, so that a page's trace ends where its records do. Contexts come with the
records' headers, which the pending table keeps.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import msgspec

from estarsync_core.headers import traceparent_of
from estarsync_runtime.tracing import OFF, Attributes, Role, Span, Tracing, parent_and_links
from loader.batches import Batch
from loader.records import Pending

_MOST = 128  # contexts of an import that are followed; what OpenTelemetry keeps of links


@dataclass(slots=True)
class _Followed:
    """What is known of an open batch."""

    records: Counter[bytes] = field(default_factory=Counter)
    others: int = 0
    parts: dict[bytes, Span] = field(default_factory=dict)
    whole: Span | None = None


class Traces:
    """Follows batches from when they are ready to their end. With tracing off it does nothing.

    Args:
        tracing: where they are shown.
    """

    def __init__(self, tracing: Tracing = OFF) -> None:
        self._tracing = tracing
        self._open: WeakKeyDictionary[Batch, _Followed] = WeakKeyDictionary()

    @property
    def on(self) -> bool:
        """Whether anything is recorded."""
        return self._tracing.on

    def took(self, batch: Batch, record: Pending) -> None:
        """A record went into a batch."""
        followed = self._open.setdefault(batch, _Followed())
        context = traceparent_of(msgspec.msgpack.decode(record.headers))
        if context is not None and (context in followed.records or len(followed.records) < _MOST):
            followed.records[context] += 1
        else:
            followed.others += 1

    def ready(self, batch: Batch) -> None:
        """A batch is about to be sent, as soon as quota and slots allow."""
        if not self.on:
            return
        followed = self._open.setdefault(batch, _Followed())
        for context, records in followed.records.items():
            facts: Attributes = {"estarsync.records": records, **_facts(batch)}
            name = f"deliver {batch.entity}"
            followed.parts[context] = self._tracing.begin(name, facts, role=Role.CONSUMER, parent=context)

    def sent(self, batch: Batch) -> None:
        """Its call goes out, for the first time or again."""
        if not self.on:
            return
        followed = self._open.setdefault(batch, _Followed())
        if followed.whole is not None:
            followed.whole.happened("sent again")
            return
        traceparents = [part.traceparent for part in followed.parts.values() if part.traceparent is not None]
        parent, links = parent_and_links(traceparents)
        facts: Attributes = {
            "estarsync.records": len(batch.fences),
            "estarsync.bytes": batch.size,
            **_facts(batch),
        }
        followed.whole = self._tracing.begin(
            f"{batch.kind} {batch.entity}", facts, role=Role.CLIENT, parent=parent, links=links
        )

    def accepted(self, batch: Batch) -> None:
        """Dotdigital has taken it and named it."""
        if (whole := self._whole(batch)) is not None:
            whole.happened("accepted")
            whole.tell({"dotdigital.import_id": batch.import_id or ""})

    def failed(self, batch: Batch, why: str) -> None:
        """It came to nothing this time."""
        if (whole := self._whole(batch)) is not None:
            whole.happened("failed", {"estarsync.code": why})

    def ended(self, batch: Batch, failure: str | None = None) -> None:
        """Its report is there, or it is over without one. Every batch ends so; a second time changes nothing."""
        followed = self._open.pop(batch, None)
        if followed is None:
            return
        for span in (followed.whole, *followed.parts.values()):
            if span is not None:
                span.end(failure)

    @contextmanager
    def logged(self, batch: Batch) -> Iterator[None]:
        """Log lines about a batch carry its ids meanwhile."""
        followed = self._open.get(batch)
        spans = [] if followed is None else [followed.whole, *followed.parts.values()]
        span = next((each for each in spans if each is not None), None)
        if span is None:
            yield
            return
        with span.logged():
            yield

    def _whole(self, batch: Batch) -> Span | None:
        followed = self._open.get(batch)
        return None if followed is None else followed.whole


def _facts(batch: Batch) -> dict[str, str]:
    return {
        "estarsync.batch": batch.id,
        "estarsync.entity": batch.entity.value,
        "estarsync.lane": batch.lane.value,
    }
