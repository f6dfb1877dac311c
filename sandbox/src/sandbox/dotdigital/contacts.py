"""Contacts: how they are kept, found and shown."""

from collections.abc import Iterator
from typing import Any

import msgspec

from sandbox.dotdigital.fields import DataFields
from sandbox.dotdigital.lists import Lists
from sandbox.dotdigital.rows import Rows
from sandbox.dotdigital.times import stamp

PARTS = frozenset({"channelProperties", "lists", "preferences", "consentRecords"})
ALL_FIELDS = "[[ALL]]"
CONTACT_STATUSES = frozenset(
    {"subscribed", "unsubscribed", "pendingOptIn", "deleted", "suppressed", "binned", "noSubscription"}
)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Contact:
    """One contact. A million of them fit into memory, so its data fields are kept as JSON."""

    __slots__ = (
        "consents",
        "contact_id",
        "created",
        "custom",
        "data",
        "email",
        "email_status",
        "email_type",
        "lists",
        "mobile",
        "opt_in_type",
        "preferences",
        "sms_status",
        "updated",
        "whats_app_status",
        "written",
    )

    def __init__(self, contact_id: int, now: float) -> None:
        self.contact_id = contact_id
        self.email: str | None = None
        self.mobile: str | None = None
        self.custom: dict[str, str] | None = None
        self.data = b"{}"
        self.email_type = "Html"
        self.opt_in_type = "Unknown"
        self.email_status = "subscribed"
        self.sms_status = "noSubscription"
        self.whats_app_status = "noSubscription"
        self.lists: tuple[int, ...] = ()
        self.preferences: dict[int, bool] | None = None
        self.consents: list[dict[str, Any]] | None = None
        self.created = now
        self.updated = now
        self.written = b""  # the hash of the last write

    @property
    def fields(self) -> dict[str, Any]:
        """A copy of its data fields, by upper-case name; empty ones are not in it."""
        return _decode(self.data)

    @fields.setter
    def fields(self, values: dict[str, Any]) -> None:
        self.data = _encode(values)

    @property
    def status(self) -> str:
        """The contact-level status."""
        if self.email is None:
            return "noSubscription"
        return self.email_status if self.email_status in CONTACT_STATUSES else "suppressed"

    @property
    def key(self) -> str:
        """What the ledger calls it."""
        return self.email.lower() if self.email else f"contactId={self.contact_id}"

    def identifiers(self) -> dict[str, str]:
        """As shown: everything that it can be found by, but its id."""
        shown: dict[str, str] = {}
        if self.email is not None:
            shown["email"] = self.email
        if self.mobile is not None:
            shown["mobileNumber"] = self.mobile
        return {**shown, **(self.custom or {})}

    def reference(self) -> dict[str, Any]:
        """As a report shows it."""
        return {"contactId": self.contact_id, "identifiers": self.identifiers()}


class ContactStore:
    """All contacts, by each identifier, and the recycle bin."""

    def __init__(self) -> None:
        self.rows: Rows[Contact] = Rows()
        self.binned: dict[str, Contact] = {}
        self._by_email: dict[str, Contact] = {}
        self._by_mobile: dict[str, Contact] = {}
        self._by_custom: dict[tuple[str, str], Contact] = {}

    def __len__(self) -> int:
        """How many there are, without the recycle bin."""
        return len(self.rows)

    def __iter__(self) -> Iterator[Contact]:
        """All of them."""
        return iter(self.rows)

    def find(self, identifier: str, value: str | int) -> Contact | None:
        """The contact that an identifier names; e-mails in any case, ids as number or digits."""
        text = str(value)
        if identifier == "contactId":
            return self.rows.get(int(text)) if text.isascii() and text.isdigit() else None
        if identifier == "email":
            return self._by_email.get(text.lower())
        if identifier == "mobileNumber":
            return self._by_mobile.get(text.removeprefix("+"))
        return self._by_custom.get((identifier, text))

    def new(self, now: float) -> Contact:
        """A contact without identifiers; it is findable once `identify` has given it some."""
        contact = Contact(self.rows.next_number(), now)
        self.rows.add(contact.contact_id, contact)
        return contact

    def identify(self, contact: Contact, identifiers: dict[str, str | int]) -> None:
        """Give a contact identifiers, in place of those of the same name. An e-mail keeps its spelling."""
        for name, value in identifiers.items():
            text = str(value)
            if name == "email":
                if contact.email is None or contact.email.lower() != text.lower():
                    if contact.email is not None:
                        del self._by_email[contact.email.lower()]
                    contact.email = text
                    self._by_email[text.lower()] = contact
            elif name == "mobileNumber":
                if contact.mobile is not None:
                    del self._by_mobile[contact.mobile]
                contact.mobile = text.removeprefix("+")
                self._by_mobile[contact.mobile] = contact
            elif name != "contactId":
                contact.custom = contact.custom or {}
                self._by_custom.pop((name, contact.custom.get(name, "")), None)
                contact.custom[name] = text
                self._by_custom[name, text] = contact

    def take_out(self, contact: Contact, *, keep: bool) -> None:
        """Delete a contact, into the recycle bin if it is to be kept and has an e-mail."""
        self.rows.remove(contact.contact_id)
        if contact.email is not None:
            del self._by_email[contact.email.lower()]
            if keep:
                self.binned[contact.email.lower()] = contact
        if contact.mobile is not None:
            del self._by_mobile[contact.mobile]
        for name, value in (contact.custom or {}).items():
            del self._by_custom[name, value]

    def restore(self, email: str) -> Contact | None:
        """Take a contact out of the recycle bin, as it was but for identifiers that others have by now."""
        contact = self.binned.pop(email.lower(), None)
        if contact is None:
            return None
        kept = {
            name: value for name, value in contact.identifiers().items() if self.find(name, value) is None
        }
        contact.email = contact.mobile = contact.custom = None
        self.rows.add(contact.contact_id, contact)
        self.identify(contact, {**kept})
        return contact


def show_contact(
    contact: Contact,
    fields: DataFields,
    lists: Lists,
    *,
    parts: frozenset[str] = PARTS,
    names: tuple[str, ...] | None = None,
    empty_as_null: bool = True,
) -> dict[str, Any]:
    """A contact as a call shows it.

    Args:
        contact: which.
        fields: the account's data fields.
        lists: the account's lists.
        parts: which data sets beside the key information.
        names: which data fields, by upper-case name; None for every one.
        empty_as_null: whether an empty data field is shown as null, or left out.
    """
    shown: dict[str, Any] = {
        "contactId": contact.contact_id,
        "status": contact.status,
        "created": stamp(contact.created),
        "updated": stamp(contact.updated),
        "identifiers": contact.identifiers(),
    }
    wanted = fields.names() if names is None else names
    if wanted:
        values = contact.fields
        shown["dataFields"] = {
            name: values.get(name) for name in wanted if empty_as_null or values.get(name) is not None
        }
    if "channelProperties" in parts:
        shown["channelProperties"] = _channels(contact)
    if "lists" in parts:
        shown["lists"] = lists.memberships(contact)
    if "preferences" in parts and contact.preferences:
        shown["preferences"] = [
            {"id": number, "isOptedIn": wanted, "name": f"preference {number}"}
            for number, wanted in contact.preferences.items()
        ]
    if "consentRecords" in parts:
        shown["consentRecords"] = contact.consents or []
    return shown


def _channels(contact: Contact) -> dict[str, Any]:
    channels: dict[str, Any] = {}
    if contact.email is not None:
        channels["email"] = {
            "emailType": contact.email_type,
            "optInType": contact.opt_in_type,
            "status": contact.email_status,
        }
    if contact.mobile is not None:
        country = "NZ" if contact.mobile.startswith("64") else "GB"
        channels["sms"] = {"countryCode": country, "status": contact.sms_status}
        channels["whatsApp"] = {"status": contact.whats_app_status}
    return channels
