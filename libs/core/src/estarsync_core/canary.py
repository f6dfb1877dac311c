"""A synthetic contact, product and order that travel the whole path, to measure that it works and how long it takes.

A person, or a job, asks for them on the control topic. The poller publishes their raw events, as the one writer that
the raw topics have; nothing is written to eStar, and no shop knows these keys. From there on they are records like
any other. When the word is taken back, or its time is up, the poller takes product and order away again.

    key                      written by              holds
    canary                   CLI                     `Canary`; None takes it back
    canary-state             poller                  `CanaryState`: what it has made of the last one, and its keys
"""

from collections.abc import Collection
from datetime import datetime
from typing import Literal

import msgspec

from estarsync_core.control import Blocked, Words
from estarsync_core.entities import Entity
from estarsync_core.estar.content import Record, canonical_json
from estarsync_core.mapping.contacts import ContactMapper
from estarsync_core.profile import TenantProfile

CANARY = "canary"
CANARY_STATE = "canary-state"
FIRSTNAME = "estarsync"
_CONSENT = "NEWSLETTER_SUBSCRIBE"
_STATUS = "Canary"  # no shop's, so the product is never on sale
_NOTHING = "0.00"


class CanaryKeys(msgspec.Struct, frozen=True):
    """The keys of a canary's records, which must be nobody's in the shop.

    Attributes:
        email: the contact's, canonical.
        sku: the product's.
        order: the order's id.
    """

    email: str
    sku: str
    order: str

    def of(self, entity: Entity) -> str:
        """The key of one entity."""
        return {Entity.CONTACTS: self.email, Entity.PRODUCTS: self.sku, Entity.ORDERS: self.order}[entity]


class Canary(msgspec.Struct, frozen=True):
    """That a canary is to fly.

    Attributes:
        id: of this flight; it stands in the records, by which they are known again.
        at: when it was asked for.
        until: when product and order are taken away, whoever is still watching.
        keys: of its records.
    """

    id: str
    at: datetime
    until: datetime
    keys: CanaryKeys


class CanaryState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the poller has made of a canary.

    Attributes:
        id: of the flight.
        state: `sent`; `removed`: product and order were taken away; `refused` with a reason.
        at: since when.
        keys: of its records; they are no shop's, and reconcile leaves them out.
        reason: for people.
    """

    id: str
    state: Literal["sent", "removed", "refused"]
    at: datetime
    keys: CanaryKeys
    reason: str | None = None


def raw_values(canary: Canary, profile: TenantProfile) -> dict[Entity, bytes]:
    """The raw events of a canary, as the shop would have them.

    The contact says nothing of consent. The product is not on sale and costs nothing; the order comes to nothing.
    """
    keys = canary.keys
    title = title_of(canary)
    customer: Record = {
        "ID": keys.sku,
        "Email": keys.email,
        "FirstName": FIRSTNAME,
        "LastName": canary.id,
    }
    product: Record = {"ID": keys.sku, "Title": title, "Status": _STATUS, "Price": _NOTHING}
    line: Record = {
        "Barcode": keys.sku,
        "ProductID": keys.sku,
        "Title": title,
        "Quantity": "1",
        "UnitPrice": _NOTHING,
    }
    rules = profile.orders
    order: Record = {
        "ID": keys.order,
        "Email": keys.email,
        "OrderDate": canary.at.isoformat(timespec="seconds"),
        # One that is sent whatever becomes of voided orders.
        "Status": min(rules.statuses - rules.void_statuses, default=_STATUS),
        "Total": _NOTHING,
        "DeliveryMethod": canary.id,
        "Items": [line],
    }
    return {
        Entity.CONTACTS: canonical_json({"customers": [customer]}),
        Entity.PRODUCTS: canonical_json({"product": product, "item": {"Barcode": keys.sku}}),
        Entity.ORDERS: canonical_json({"orders": [order]}),
    }


def title_of(canary: Canary) -> str:
    """The product's name."""
    return f"estarsync {canary.id}"


def refusal(
    canary: Canary, profile: TenantProfile, blocked: Blocked, taken: Collection[Entity]
) -> str | None:
    """Why a canary must not fly, for people; None where it may.

    Args:
        canary: the one that was asked for.
        profile: the tenant's.
        blocked: e-mails that were erased.
        taken: entities of which the shop itself has a record under the canary's key.
    """
    if taken:
        names = ", ".join(sorted(taken))
        return f"the shop has records under the canary's keys ({names}): give others, see `estarsync canary --help`"
    if canary.keys.email in blocked:
        return "the canary's e-mail was erased: give another, or lift the block with `estarsync erase EMAIL --lift`"
    contact = ContactMapper(profile).map(canary.keys.email, raw_values(canary, profile)[Entity.CONTACTS])
    if contact.document is not None and contact.document["data_fields"][_CONSENT]:
        return (
            f"by the profile, {_CONSENT} is true where the shop says nothing, so the canary's contact would be"
            " subscribed: map it without such a default"
        )
    return None


def synthetic(words: Words) -> frozenset[tuple[Entity, str]]:
    """The keys, as on the topics, of the last canary and of one that was just asked for.

    Raises:
        InvalidRecord: what stands there is not readable.
    """
    found = (words.get(CANARY, Canary), words.get(CANARY_STATE, CanaryState))
    return frozenset(
        (entity, each.keys.of(entity)) for each in found if each is not None for entity in Entity
    )
