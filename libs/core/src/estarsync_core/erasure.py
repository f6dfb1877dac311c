"""By when the bytes of a record are gone from Kafka, from a topic's own settings."""

from collections.abc import Mapping
from datetime import datetime, timedelta

_FOREVER = -1
_DEFAULTS = {  # Kafka's own, for what a topic does not say
    "cleanup.policy": "delete",
    "retention.ms": str(7 * 86_400_000),
    "segment.ms": str(7 * 86_400_000),
    "max.compaction.lag.ms": str(2**63 - 1),
    "delete.retention.ms": str(86_400_000),
}
_LONGEST = 100 * 365 * 86_400_000  # milliseconds; beyond is for good


def values_gone_by(config: Mapping[str, str], at: datetime) -> datetime | None:
    """By when a value is gone that was written, or in a compacted topic replaced by a tombstone, at a time.

    Kafka deletes whole segments, so a record may outlive the retention by as long as a segment may stay open.

    Args:
        config: the topic's settings, as Kafka gives them.
        at: when.

    Returns:
        None where nothing makes Kafka delete it.
    """
    days = [_Settings(config).deletion, _Settings(config).compaction]
    known = [each for each in days if each is not None]
    return at + min(known) if known else None


def keys_gone_by(config: Mapping[str, str], at: datetime) -> datetime | None:
    """By when a key is gone too: in a compacted topic its tombstone is kept for a while, then compacted away.

    Args:
        config: the topic's settings, as Kafka gives them.
        at: when the last record of the key was written.

    Returns:
        None where nothing makes Kafka delete it.
    """
    settings = _Settings(config)
    tombstone = None
    if settings.compaction is not None:
        tombstone = 2 * settings.compaction + settings.tombstones
    known = [each for each in (settings.deletion, tombstone) if each is not None]
    return at + min(known) if known else None


class _Settings:
    def __init__(self, config: Mapping[str, str]) -> None:
        found = {**_DEFAULTS, **config}
        policies = found["cleanup.policy"].split(",")
        retention = int(found["retention.ms"])
        self.deletion = None
        if "delete" in policies and retention != _FOREVER:
            self.deletion = timedelta(milliseconds=retention + int(found["segment.ms"]))
        self.compaction = None
        if "compact" in policies and int(found["max.compaction.lag.ms"]) < _LONGEST:
            self.compaction = timedelta(milliseconds=int(found["max.compaction.lag.ms"]))
        self.tombstones = timedelta(milliseconds=int(found["delete.retention.ms"]))
