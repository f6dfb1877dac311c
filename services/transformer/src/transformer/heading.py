"""The headers of a typed record, from those of its raw event: same sequence, lane, source and time.

All but the sequence and the time is the same for nearly every event, and the time is for every event of a page; so
these are read and written once for all of them.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from estarsync_core.entities import Entity, Lane, Reason, Version
from estarsync_core.errors import InvalidRecord
from estarsync_core.headers import FORCED, EventHeaders, RawHeaders, written_time
from estarsync_core.mapping import MAPPING_REVISION
from estarsync_core.mapping.fields import Memory

_REMEMBERED = 1024
_PLAIN_DIGITS = 18  # a number that is written so has no other form
_ID, _SEQUENCE, _TIME = "ce_id", "ce_sequence", "ce_time"
_SOME_TIME = datetime(1970, 1, 1, tzinfo=UTC)  # in its place stands each record's own


class Again(msgspec.Struct, frozen=True):
    """What is different in the headers of a record that is transformed again; it travels in the bulk lane.

    Attributes:
        revision: in place of the mapping's own, and higher: so it is newer than what it replaces.
        forced: the resync that delivers it even where it changes nothing, if one does.
    """

    revision: int
    forced: str | None = None


class Form:
    """The headers of all typed records that differ in their sequence and time only."""

    def __init__(
        self, entity: Entity, lane: Lane, source: str, reason: Reason | None, again: Again | None
    ) -> None:
        self._facts = entity, lane, source
        self._again = again
        self.reason = reason
        revision = MAPPING_REVISION if again is None else again.revision
        version = Version(0, revision)
        self._pairs = EventHeaders(
            entity, version, lane, source, _SOME_TIME, typed=True, reason=reason
        ).encode()
        if again is not None and again.forced is not None:
            self._pairs.append((FORCED, again.forced.encode()))
        names = [name for name, _ in self._pairs]
        self._id_at, self._sequence_at = names.index(_ID), names.index(_SEQUENCE)
        self._time_at = names.index(_TIME)
        self._id = f"{entity}/".encode(), f"/{revision}".encode()
        self._others: dict[Reason | None, Form] = {reason: self}

    def with_reason(self, reason: Reason | None) -> "Form":
        """The same facts with another reason."""
        other = self._others.get(reason)
        if other is None:
            other = self._others[reason] = Form(*self._facts, reason, self._again)
        return other

    def filled(self, sequence: bytes, time: tuple[str, bytes]) -> RawHeaders:
        """The headers of one of them."""
        pairs = self._pairs.copy()
        before, after = self._id
        pairs[self._id_at] = (_ID, before + sequence + after)
        pairs[self._sequence_at] = (_SEQUENCE, sequence)
        pairs[self._time_at] = time
        return pairs


class Headings:
    """Reads the headers of an entity's raw events."""

    def __init__(self, entity: Entity) -> None:
        self._entity = entity
        self._forms = Memory(self._form, _REMEMBERED)
        self._times = Memory(_time, _REMEMBERED)

    def read(
        self, headers: Iterable[tuple[str, bytes | None]], again: Again | None = None
    ) -> tuple[bytes, tuple[str, bytes], Form]:
        """An event's sequence and time as they are written, and the form of what it becomes, with the event's own reason.

        Args:
            headers: the raw event's.
            again: where it is transformed again.

        Raises:
            InvalidRecord: field `headers`, code `unreadable`, where one that is needed is missing or can't be read.
        """
        get = dict(headers).get
        sequence = get(_SEQUENCE)
        if not sequence:
            raise InvalidRecord("headers", "unreadable")
        form = self._forms[again, get("ce_lane"), get("ce_source"), get("ce_reason")]
        time = self._times[get(_TIME)]
        if not sequence.isdigit() or sequence.startswith(b"0") or len(sequence) > _PLAIN_DIGITS:
            try:
                sequence = b"%d" % int(sequence)
            except ValueError:
                raise InvalidRecord("headers", "unreadable") from None
        return sequence, time, form

    def _form(self, facts: tuple[Again | None, bytes | None, bytes | None, bytes | None]) -> Form:
        again, lane, source, reason = facts
        if lane is None or source is None:
            raise InvalidRecord("headers", "unreadable")
        try:
            way, shop = Lane(lane.decode()), source.decode()
            why = None if reason is None else Reason(reason.decode())
        except ValueError:
            raise InvalidRecord("headers", "unreadable") from None
        return Form(self._entity, way if again is None else Lane.BULK, shop, why, again)


def _time(text: bytes | None) -> tuple[str, bytes]:
    try:
        time = datetime.fromisoformat((text or b"").decode())
    except ValueError:
        raise InvalidRecord("headers", "unreadable") from None
    if time.tzinfo is None:
        raise InvalidRecord("headers", "unreadable")
    return _TIME, written_time(time).encode()
