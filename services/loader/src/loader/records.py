"""What the loader keeps of a key: what waits, what is in flight, what is settled.

Structs, since one of each is made for every record, several times.
"""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from estarsync_core.entities import Entity, Lane, Version


class Outcome(StrEnum):
    """A key's settled state."""

    DELIVERED = "delivered"
    DEAD_LETTER = "dead_letter"
    REMOVED = "removed"
    MISSING = "missing"  # we took it for delivered, and Dotdigital does not know it
    UNSURE = "unsure"  # a report left open whether Dotdigital has it
    RENAMED = "renamed"  # a contact that has another e-mail now: `Settled.email`
    FILTERED = "filtered"  # CONTACT_SCOPE leaves it out; `Settled.place` says where to read it again
    KEPT = "kept"  # a contact that the shop no longer has and that is, or may be, there; only an erasure deletes one


class Pending(msgspec.Struct, frozen=True, gc=False):
    """One key's latest version that is not settled yet.

    Attributes:
        payload: the record's value; None for a tombstone, and for a bare contact.
        bare: a contact that only orders know. It comes from no topic.
        email: an order's contact.
        headers: the record's own, packed, for its dead letter.
        attempts: how often a report left its fate open.
        parked_at: since when its contact is unknown to Dotdigital, by the monotonic clock.
        again: whether it was settled before and is offered once more; the loader's offsets don't wait for it.
        origin: the e-mail that this contact had before, or the contact under which Dotdigital holds this order now. An
            errand sees to that first (see `errands`).
        in_scope: whether CONTACT_SCOPE lets this contact be created; known as it comes in, and not kept.
    """

    entity: Entity
    key: str
    version: Version
    lane: Lane
    payload: bytes | None
    bare: bool = False
    email: str | None = None
    headers: bytes = b"\x90"
    topic: str | None = None
    partition: int = -1
    offset: int = -1
    attempts: int = 0
    parked_at: float | None = None
    again: bool = False
    origin: str | None = None
    in_scope: bool = True

    @property
    def errand(self) -> bool:
        """Whether a call of its own comes before its import, or in its place: an erasure."""
        return self.origin is not None or (self.tombstone and self.entity is Entity.CONTACTS)

    @property
    def tombstone(self) -> bool:
        """Whether the key is to be removed."""
        return self.payload is None and not self.bare


_OPEN = {Outcome.MISSING, Outcome.UNSURE, Outcome.RENAMED, Outcome.FILTERED}

BARE = Version(0, 0)
"""A bare contact's version: lower than any that comes from a topic."""


class Person(NamedTuple):
    """Whose a waiting record is."""

    entity: Entity
    key: str
    email: str
    bare: bool


class Settled(msgspec.Struct, frozen=True, gc=False):
    """The last settled state of a key.

    Attributes:
        version: the highest version whose fate is known.
        hash: of the payload that was delivered; empty where that is not what Dotdigital holds.
        outcome: the fate of that version.
        email: an order's contact; of a contact, the e-mail that the shop has for the same customer now, where that is
            another one.
        there: whether Dotdigital holds the key, in this version or an older one.
        place: partition and offset of a record that was left out.
    """

    version: Version
    hash: str
    outcome: Outcome
    email: str | None
    there: bool
    place: tuple[int, int] | None = None

    def after(self, before: "Settled | None") -> "Settled":
        """This state where `before` was known already: the version and its outcome never go back."""
        if before is None or before.version <= self.version:
            return self
        outcome = self.outcome if before.outcome in _OPEN else before.outcome
        return Settled(before.version, "", outcome, self.email, self.there)


def refused(record: Pending, before: Settled | None) -> Settled:
    """The state of a key whose latest version became a dead letter: an older one may be there."""
    there = before is not None and before.there
    kept = there or record.entity is Entity.CONTACTS
    email = before.email if before is not None and kept else record.email
    return Settled(record.version, "", Outcome.DEAD_LETTER, email, there).after(before)


def filtered(record: Pending, before: Settled | None) -> Settled:
    """The state of a key whose latest version CONTACT_SCOPE leaves out: it can be read again from its topic."""
    place = (record.partition, record.offset)
    there = before is not None and before.there
    return Settled(record.version, "", Outcome.FILTERED, record.email, there, place)


class Filtered(NamedTuple):
    """A record that was left out, and where it stands."""

    entity: Entity
    key: str
    partition: int
    offset: int


class Fence(msgspec.Struct, frozen=True, gc=False):
    """A key that an open batch holds, and the version that it holds."""

    key: str
    version: Version
    hash: str
    email: str | None = None


class KeyState(msgspec.Struct, frozen=True, gc=False):
    """All that is known of a key.

    Attributes:
        waiting: the version that waits or is in flight.
        bare: whether that is a bare contact.
        attempts: how often a report left its fate open.
        parked_at: since when its contact is unknown to Dotdigital.
        held: the version that an open batch holds.
        settled: the last settled state.
    """

    waiting: Version | None
    bare: bool
    attempts: int
    parked_at: float | None
    held: Version | None
    settled: Settled | None

    @property
    def there(self) -> bool:
        """Whether Dotdigital holds the key, as far as is known for certain."""
        return self.settled is not None and self.settled.there

    @property
    def perhaps_there(self) -> bool:
        """Whether Dotdigital holds the key, or is about to, or may hold it."""
        return self.there or self.held is not None or self.attempts > 0
