"""Transforming with a trace: what the handler does, and each record's trace context goes on in what it becomes.

A transaction holds records of many pages. It has a span of its own, and one more for each page in that page's trace.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from estarsync_core.headers import TRACEPARENT, traceparent_of
from estarsync_runtime.tracing import OFF, Role, Span, Tracing
from transformer.handler import DEAD_LETTER, Handler, Output, RawEvent

_MOST_LINKS = 128  # what OpenTelemetry keeps of them


@dataclass(slots=True)
class _Part:
    """The records of one page in a transaction."""

    span: Span
    header: tuple[str, bytes]
    records: int = 0


class TracedHandler:
    """A `Handler` whose records carry the context of their transaction; for tracing that is on.

    Args:
        handler: what becomes of a raw event.
        tracing: where transactions are shown.
    """

    def __init__(self, handler: Handler, tracing: Tracing) -> None:
        self._handler = handler
        self._tracing = tracing
        self._parts: dict[tuple[str, bytes], _Part] = {}
        self._whole: Span = OFF.begin("")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is handled inside belongs to one transaction, which fails where an exception comes out."""
        self._parts = {}
        with self._tracing.span("transaction", {"messaging.system": "kafka"}) as self._whole:
            failure: str | None = "rolled back"
            try:
                yield
                failure = None
            finally:
                records = 0
                for part in self._parts.values():
                    records += part.records
                    part.span.tell({"messaging.batch.message_count": part.records})
                    part.span.end(failure)
                self._whole.tell(
                    {"messaging.batch.message_count": records, "estarsync.pages": len(self._parts)}
                )

    def handle(self, event: RawEvent) -> Output:
        """The record to write for a raw event, with its context."""
        output = self._handler.handle(event)
        # What a person has transformed again is not the old page's any more: that trace was over long ago.
        parent = traceparent_of(event.headers) if event.again is None else None
        part = self._parts.get((event.topic, parent or b"")) or self._part(event.topic, parent, output)
        part.records += 1
        if output.outcome == DEAD_LETTER:  # it has the headers of its source
            output.headers[:] = [header for header in output.headers if header[0] != TRACEPARENT]
        output.headers.append(part.header)
        return output

    def _part(self, topic: str, parent: bytes | None, output: Output) -> _Part:
        facts = {
            "messaging.system": "kafka",
            "messaging.destination.name": topic,
            "estarsync.entity": output.entity.value,
        }
        known = [each for each in (self._whole.traceparent,) if each is not None]
        span = self._tracing.begin(
            f"transform {output.entity}",
            facts,
            role=Role.CONSUMER,
            # Without a context it belongs to the transaction; with one it has to do with it.
            parent=parent or self._whole.traceparent,
            links=known if parent else (),
        )
        if parent is not None and len(self._parts) < _MOST_LINKS:
            self._whole.link(parent)
        part = self._parts[topic, parent or b""] = _Part(span, (TRACEPARENT, span.traceparent or b""))
        return part
