"""Kafka headers: CloudEvents 1.0 in Kafka's binary mode, with our own facts as extension attributes.

| header | on | meaning |
|---|---|---|
| `ce_specversion`, `ce_source`, `ce_type`, `ce_time` | raw, typed | as CloudEvents says |
| `ce_id` | raw, typed | `<entity>/<sequence>`, typed with `/<revision>` |
| `content-type` | raw, typed | `application/json`, `application/avro` |
| `ce_sequence` | raw, typed | the poller's number, decimal |
| `ce_revision` | typed | the mapping revision, decimal; of what a resync has mapped again, the time at which that was asked for |
| `ce_lane` | raw, typed | `live` or `bulk` |
| `ce_reason` | tombstones | `removed`, `renamed` or `erased` |
| `ce_forced` | typed | the id of a resync that delivers it even where Dotdigital is known to hold it |
| `traceparent` | notifications, raw, typed | the W3C's trace context; only where tracing is on |
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from estarsync_core.entities import Entity, Lane, Reason, Version
from estarsync_core.errors import InvalidRecord

_TYPE_PREFIX = "com.estarsync"
FORCED = "ce_forced"
TRACEPARENT = "traceparent"
RawHeaders = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class EventHeaders:
    """The facts that travel beside a record's value."""

    entity: Entity
    version: Version
    lane: Lane
    source: str
    time: datetime
    typed: bool
    reason: Reason | None = None

    def encode(self) -> RawHeaders:
        """The headers as Kafka wants them."""
        sequence, revision = self.version.sequence, self.version.revision
        stage = "payload" if self.typed else "raw"
        pairs = [
            ("ce_specversion", "1.0"),
            ("ce_id", f"{self.entity}/{sequence}" + (f"/{revision}" if self.typed else "")),
            ("ce_source", self.source),
            ("ce_type", f"{_TYPE_PREFIX}.{self.entity}.{stage}.v1"),
            ("ce_time", written_time(self.time)),
            ("content-type", "application/avro" if self.typed else "application/json"),
            ("ce_sequence", str(sequence)),
            ("ce_lane", self.lane.value),
        ]
        if self.typed:
            pairs.append(("ce_revision", str(revision)))
        if self.reason is not None:
            pairs.append(("ce_reason", self.reason.value))
        return [(name, value.encode()) for name, value in pairs]


def written_time(time: datetime) -> str:
    """A time as headers have it: UTC, in milliseconds."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def traceparent_of(headers: Iterable[tuple[str, bytes | None]] | None) -> bytes | None:
    """The trace context that a record came with; None where it says nothing."""
    return next((value for name, value in headers or () if name == TRACEPARENT), None)


def version_of(headers: Iterable[tuple[str, bytes | None]] | None) -> tuple[Version, Lane, Reason | None]:
    """Version, lane and reason of a record; the revision is 0 on raw records.

    Raises:
        InvalidRecord: field `headers`, where the sequence or the lane is missing or unreadable.
    """
    found = {name: value for name, value in headers or () if value is not None}
    try:
        version = Version(int(found["ce_sequence"]), int(found.get("ce_revision", b"0")))
        lane = Lane(found["ce_lane"].decode())
        reason = Reason(found["ce_reason"].decode()) if "ce_reason" in found else None
    except (KeyError, ValueError) as error:
        raise InvalidRecord("headers", "unreadable") from error
    return version, lane, reason
