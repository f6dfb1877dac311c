"""What mapping one record gives."""

from typing import Any

import msgspec

from estarsync_core.entities import Reason

Document = dict[str, Any]
"""A payload in the shape of its entity's Avro schema: times are aware UTC, dates `date`, money `float`."""


class Shared(dict[str, Any]):
    """A part of a document that stands in many of them, so nobody may change it.

    Attributes:
        encoder: who has encoded this part, if somebody has.
        encoded: what that has made of it.
    """

    __slots__ = ("encoded", "encoder")

    def __init__(self, **values: object) -> None:
        super().__init__(values)
        self.encoder: object = None
        self.encoded = b""


class Mapped(msgspec.Struct, frozen=True, gc=False):
    """One mapped record.

    Attributes:
        document: the payload, always whole; None for a tombstone.
        reason: why there is no document; None where there is one.
        dropped: (field, code) of every optional value that did not travel as the shop wrote it. Codes `cut`
            (too long, its beginning travels) and `not_in_lookup` (it travels as it is) keep the value; with
            any other code the field is left out. Both words come from closed sets, fit for metric labels.
    """

    document: Document | None
    reason: Reason | None = None
    dropped: tuple[tuple[str, str], ...] = ()
