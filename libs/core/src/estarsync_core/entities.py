"""The three things that are synced, the two lanes they travel in, and the version that orders them."""

from enum import StrEnum
from typing import NewType

import msgspec

ContactEmail = NewType("ContactEmail", str)
"""An e-mail in canonical form (see `keys.canonical_email`): the key of contacts."""
Sku = NewType("Sku", str)
"""An item's barcode: the key of products."""
OrderId = NewType("OrderId", str)
"""The id of the order at the root of a split tree, as text: the key of orders."""


class Entity(StrEnum):
    """What is synced. The value is the word used in topic names, metric labels and commands."""

    CONTACTS = "contacts"
    PRODUCTS = "products"
    ORDERS = "orders"


class Lane(StrEnum):
    """How urgent a record is: `live` overtakes `bulk` (first load, deep sweep, resync) in the loader."""

    LIVE = "live"
    BULK = "bulk"


class Reason(StrEnum):
    """Why a tombstone was written."""

    REMOVED = "removed"
    RENAMED = "renamed"
    ERASED = "erased"


class Version(msgspec.Struct, frozen=True, order=True, gc=False):
    """The one number that orders all versions of a key: the higher is the newer.

    `sequence` is given by the single poller, strictly increasing per entity. `revision` is the mapping's, or for a
    record that was mapped again that resync's: it is newer than what it replaces.
    """

    sequence: int
    revision: int
