"""From a typed document to what Dotdigital's imports take.

These functions build every body that carries a contact. None knows a channel status, an opt-in type
or a resubscribe option: that is the consent firewall. A new contact's status is Dotdigital's own default, and an
existing one's is never touched (API facts, 3.4).
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from estarsync_core.entities import ContactEmail, Entity
from estarsync_core.keys import record_key

Json = dict[str, Any]

_NEVER_NULL = frozenset({"billing_address", "delivery_address", "delivery_method"})


def contact_entry(document: Mapping[str, Any], list_id: int) -> Json:
    """One entry of a contact import: each data field that the document speaks of, null where it is cleared.

    Args:
        document: a decoded `dotdigital.contact` record.
        list_id: the list that the contact belongs on.
    """
    omitted = set(document["omitted"])
    fields = {name: _json(value) for name, value in document["data_fields"].items() if name not in omitted}
    entry = bare_contact_entry(document["email"], list_id)
    entry["dataFields"] = fields
    return entry


def bare_contact_entry(email: ContactEmail | str, list_id: int) -> Json:
    """A contact that is only known from an order: identifier and list, and no data field at all."""
    return {"matchIdentifier": "email", "identifiers": {"email": email}, "lists": [list_id]}


def insight_record(entity: Entity, document: Mapping[str, Any]) -> Json:
    """One record of an Insight import: a product's or an order's full document.

    An order's empty parts are left out rather than sent as null or `{}`, since the first record fixes a key's
    type in its collection (API facts, 6.4); a product's nulls are sent, which clears them.
    """
    if entity is Entity.PRODUCTS:
        return {
            "key": record_key(document["sku"]),
            "json": {name: _json(value) for name, value in document.items()},
        }
    body = {
        name: _json(value) for name, value in document.items() if not (value is None and name in _NEVER_NULL)
    }
    return {
        "key": record_key(document["id"]),
        "contactIdentity": {"identifier": "email", "value": document["email"]},
        "json": body,
    }


def _json(value: Any) -> Any:  # noqa: ANN401 - any Avro value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00Z"
    if isinstance(value, Mapping):
        return {name: _json(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_json(part) for part in value]
    return value
