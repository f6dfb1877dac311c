"""How far the poller has read an entity, as `estarsync.checkpoints.v1` keeps it: its value is JSON."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from estarsync_core.estar.sequences import Ranges


class FeedMark(msgspec.Struct, frozen=True, kw_only=True):
    """One feed's progress: everything before `cursor` has been read and published.

    `first_load_done` says whether what the shop had at the start has been read once; `records` and `ratio` (from 0
    to 1) how far that has come.
    """

    cursor: datetime
    first_load_done: bool
    window_hours: float
    records: int = 0
    ratio: float = 0.0


class Checkpoint(msgspec.Struct, frozen=True):
    """An entity's progress: the number of its last event, its feeds by name, and its notifications.

    `notifications` holds the settled numbers of each subscriber (orders only).
    """

    sequence: int = 0
    feeds: dict[str, FeedMark] = {}
    notifications: dict[str, Ranges] = {}

    def with_feed(self, name: str, mark: FeedMark) -> "Checkpoint":
        """The same with one feed's progress replaced."""
        return msgspec.structs.replace(self, feeds={**self.feeds, name: mark})

    def with_sequence(self, sequence: int) -> "Checkpoint":
        """The same with another number."""
        return msgspec.structs.replace(self, sequence=sequence)

    def with_notifications(self, settled: Mapping[str, Ranges]) -> "Checkpoint":
        """The same with other notifications settled."""
        return msgspec.structs.replace(self, notifications=dict(settled))

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)


def decode_checkpoint(value: bytes) -> Checkpoint:
    """A checkpoint from its JSON.

    Raises:
        msgspec.DecodeError: where it is none.
    """
    return msgspec.json.decode(value, type=Checkpoint)
