"""From a typed document to what Dotdigital's imports take.

These functions build every body that carries a contact. None knows a channel status, an opt-in type or a resubscribe
option, and no data field passes but the sync's own: that is the consent firewall. A new contact's status is
Dotdigital's own default, and an existing one's is never touched (API facts, 3.4).
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from estarsync_core.dotdigital.fields import DATA_FIELDS
from estarsync_core.entities import ContactEmail, Entity
from estarsync_core.keys import record_key

Json = dict[str, Any]
_PLAIN = frozenset({str, int, float, bool, type(None)})


def contact_entry(document: Mapping[str, Any], list_id: int) -> Json:
    """One entry of a contact import: each data field that the document speaks of, null where it is cleared.

    Args:
        document: a decoded `dotdigital.contact` record.
        list_id: the list that the contact belongs on.
    """
    omitted = document["omitted"]
    entry = bare_contact_entry(document["email"], list_id)
    entry["dataFields"] = {
        name: _json(value)
        for name, value in document["data_fields"].items()
        if name in DATA_FIELDS and name not in omitted
    }
    return entry


def bare_contact_entry(email: ContactEmail | str, list_id: int) -> Json:
    """A contact that is only known from an order: identifier and list, and no data field at all."""
    return {"matchIdentifier": "email", "identifiers": {"email": email}, "lists": [list_id]}


def renamed_entry(email: ContactEmail | str) -> Json:
    """What a contact's new e-mail is written with: the identifier, and nothing else."""
    return {"identifiers": {"email": email}}


def insight_record(entity: Entity, document: Mapping[str, Any], contact: str | None = None) -> Json:
    """One record of an Insight import: a product's or an order's full document.

    Args:
        entity: products or orders.
        document: a decoded typed record.
        contact: the contact that an order belongs to, where that was renamed since.

    An order's empty parts are left out rather than sent as null or `{}`, since the first record fixes a key's
    type in its collection (API facts, 6.4); a product's nulls are sent, which clears them.
    """
    if entity is Entity.PRODUCTS:
        return {
            "key": record_key(document["sku"]),
            "json": {name: _json(value) for name, value in document.items()},
        }
    return {
        "key": record_key(document["id"]),
        "contactIdentity": {"identifier": "email", "value": contact or document["email"]},
        "json": _json(document),
    }


def _json(value: Any) -> Any:  # noqa: ANN401 - any Avro value
    """The value as JSON has it; inside a record, empty parts are left out."""
    if type(value) in _PLAIN:  # nearly all of them, and a look at the type costs least
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00Z"
    if isinstance(value, Mapping):
        parts = ((name, part if type(part) in _PLAIN else _json(part)) for name, part in value.items())
        return {name: part for name, part in parts if part is not None and part not in ({}, [])}
    if isinstance(value, list):
        return [_json(part) for part in value]
    return value
