"""Contacts v3, one at a time, and listings of them."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
from msgspec import UNSET

from sandbox.dotdigital.account import Account
from sandbox.dotdigital.call import Call
from sandbox.dotdigital.contact_writes import (
    STANDARD,
    Failure,
    Source,
    identifier_failures,
    note_consent,
    write_entry,
)
from sandbox.dotdigital.contacts import ALL_FIELDS, PARTS, Contact, show_contact
from sandbox.dotdigital.errors import RefusedCall, not_found, reply, v3_refusal, wrong_value
from sandbox.dotdigital.ledger import WriteLine
from sandbox.dotdigital.paging import MAX_LIMIT, page
from sandbox.dotdigital.requests import ContactEntry, LenientEntry, MergeOption
from sandbox.dotdigital.times import since
from sandbox.dotdigital.validation import Service, check_entry, decode
from sandbox.dotdigital.values import is_email, is_mobile

_MERGE_OPTIONS: dict[str, MergeOption] = {
    "overwrite": "overwrite",
    "overwrite-if-not-empty": "overwriteIfNotEmpty",
    "overwrite-if-empty": "overwriteIfEmpty",
}
_MAX_VALUE = 256
_FILTERS = frozenset({"~created", "~modified", "~listId", "~segmentId"})
_UNDELETABLE = frozenset({"suppressed"})


def path_contact(call: Call, service: Service = "contacts") -> Contact | None:
    """The contact that the path names, or None.

    Raises:
        RefusedCall: 400, the identifier is not known or its value can't be one.
    """
    name, value = call.params["identifier"], call.params["value"]
    known = STANDARD.union(call.account.options.custom_identifiers)
    checks = {"email": is_email, "mobileNumber": is_mobile, "contactId": str.isdigit}
    check = checks.get(name)
    if name not in known or not 1 <= len(value) <= _MAX_VALUE or (check is not None and not check(value)):
        text = f"The id value '{value}' is invalid for the identifier '{name}'"
        raise v3_refusal(400, f"{service}:invalidId", text)
    return call.account.contacts.find(name, value)


def required_contact(call: Call, service: Service = "contacts") -> Contact:
    """The same, or 404."""
    contact = path_contact(call, service)
    if contact is None:
        found_by = f"Not found using the identifier '{call.params['identifier']}'"
        raise not_found(service, "contactNotFound", call.params["value"], found_by)
    return contact


def _shown(account: Account, contact: Contact) -> dict[str, Any]:
    return show_contact(
        contact,
        account.fields,
        account.lists,
        empty_as_null=account.options.empty_data_fields == "null",
    )


def get_contact(call: Call) -> httpx.Response:
    """`GET /contacts/v3/{identifier}/{value}`."""
    return reply(200, _shown(call.account, required_contact(call)))


def get_contacts(call: Call) -> httpx.Response:
    """`GET /contacts/v3`."""
    options = call.account.options
    parts = frozenset(_piped(call, "include"))
    if not parts <= PARTS:
        raise _invalid_filter("include", call.query["include"])
    matches = _filters(call)

    def rows(after: int) -> Iterator[tuple[int, Contact]]:
        return (row for row in call.account.contacts.rows.after(after) if matches(row[1]))

    names = _field_names(call)

    def show(contact: Contact) -> dict[str, Any]:
        return show_contact(
            contact,
            call.account.fields,
            call.account.lists,
            parts=parts,
            names=names,
            empty_as_null=options.empty_data_fields == "null",
        )

    return reply(
        200,
        page(call.url, "contacts", rows, show, largest=MAX_LIMIT, options=options, rng=call.account.rng),
    )


def _piped(call: Call, name: str) -> list[str]:
    return [part for part in call.query.get(name, "").split("|") if part]


def _field_names(call: Call) -> tuple[str, ...] | None:
    wanted = _piped(call, "data-fields")
    if wanted == [ALL_FIELDS]:
        return None
    fields = [call.account.fields.find(name) for name in wanted]
    if None in fields:
        raise _invalid_filter("data-fields", call.query["data-fields"])
    return tuple(field.name for field in fields if field is not None)


def _invalid_filter(name: str, value: str) -> RefusedCall:
    return v3_refusal(400, "contacts:invalidFilter", f"The filter value '{value}' is invalid, path {name}")


def _filters(call: Call) -> Callable[[Contact], bool]:
    given = {name: value for name, value in call.query.items() if name.startswith("~")}
    for name, value in given.items():
        if name not in _FILTERS:
            raise _invalid_filter(name, value)
    for one, other in (("~created", "~modified"), ("~listId", "~segmentId")):
        if one in given and other in given:
            raise _invalid_filter(f"{one} beside {other}", given[one])
    created = _time(given, "~created")
    modified = _time(given, "~modified")
    if "~segmentId" in given:
        raise _invalid_filter("~segmentId", given["~segmentId"])  # the sandbox's segments have names only
    list_id = None
    if "~listId" in given:
        text = given["~listId"]
        if not (text.isascii() and text.isdigit()) or call.account.lists.find(int(text)) is None:
            raise _invalid_filter("~listId", text)
        list_id = int(text)

    def matches(contact: Contact) -> bool:
        return (
            contact.created >= created
            and contact.updated >= modified
            and (list_id is None or list_id in contact.lists)
        )

    return matches


def _time(given: dict[str, str], name: str) -> float:
    if name not in given:
        return 0.0
    time = since(given[name])
    if time is None:
        raise _invalid_filter(name, given[name])
    return time


def _entry(call: Call) -> ContactEntry:
    options = call.account.options
    entry = decode(ContactEntry if options.unknown_keys == "reject" else LenientEntry, call.body, "contacts")
    check_entry(entry, "", options)
    note_consent(call.account, entry, call.now, "")
    return entry


def _forbid(present: bool, path: str) -> None:  # noqa: FBT001 - reads as a sentence where it is called
    if present:
        text = f"Object contains unknown field, path {path}"
        raise v3_refusal(400, "server:badRequest", f"Bad request: {text}", [(path, text)])


def _required_identifiers(entry: ContactEntry) -> None:
    if not entry.identifiers:
        text = "Object missing required field `identifiers`"
        raise v3_refusal(400, "server:badRequest", f"Bad request: {text}, path body", [("body", text)])


def _refuse(failures: tuple[Failure, ...]) -> RefusedCall:
    first = failures[0]
    if first.code == "Duplicate":
        return v3_refusal(409, "contacts:idAlreadyExists", "All identifiers must be unique!")
    if first.code in {"InvalidEmail", "InvalidPhoneNumber", "InvalidContactId", "NoValidIdentifiers"}:
        return v3_refusal(400, "contacts:invalidId", f"{first.description}, path {first.path}")
    return wrong_value("contacts", first.path, first.description)


def post_contact(call: Call) -> httpx.Response:
    """`POST /contacts/v3`: creates, and nothing else."""
    entry = _entry(call)
    _required_identifiers(entry)
    _forbid(entry.match_identifier is not UNSET, "matchIdentifier")
    channels = entry.channel_properties
    email = channels.email if channels is not UNSET else UNSET
    _forbid(
        email is not UNSET and email.resubscribe_options is not UNSET,
        "channelProperties.email.resubscribeOptions",
    )
    written = write_entry(call.account, None, entry, "overwrite", Source("contact", call.now))
    if written.contact is None:
        raise _refuse(written.failures)
    return reply(201, _shown(call.account, written.contact))


def patch_contact(call: Call) -> httpx.Response:
    """`PATCH /contacts/v3/{identifier}/{value}`: updates or creates; a new identifier in the body renames."""
    text = call.query.get("merge-option", "overwrite")
    if text not in _MERGE_OPTIONS:
        raise wrong_value("contacts", "merge-option", f"'{text}'")
    contact = path_contact(call)
    entry = _entry(call)
    if contact is None and call.params["identifier"] == "email":
        contact = call.account.contacts.restore(call.params["value"])
    if contact is None and not entry.identifiers.keys() & {"email", "mobileNumber"}:
        raise _refuse(
            (Failure("NoValidIdentifiers", "a new contact needs an email or a mobileNumber", "identifiers"),)
        )
    if contact is not None:
        _forbid(entry.identifiers.get("contactId", contact.contact_id) != contact.contact_id, "contactId")
        call.account.jobs.write_beside_import(call.now, f"contact:{contact.key}")
    new_email = str(entry.identifiers.get("email", "")).lower()
    if contact is None or new_email != contact.key:
        call.account.jobs.write_beside_import(call.now, f"contact:{new_email}")
    source = Source("contact_patch", call.now)
    written = write_entry(call.account, contact, entry, _MERGE_OPTIONS[text], source)
    if written.contact is None:
        raise _refuse(written.failures)
    return reply(201 if written.created else 200, _shown(call.account, written.contact))


def put_contact(call: Call) -> httpx.Response:
    """`PUT /contacts/v3/{identifier}/{value}`: replaces; what is left out is lost."""
    contact = required_contact(call)
    entry = _entry(call)
    _required_identifiers(entry)
    _forbid(entry.consent_records is not UNSET, "consentRecords")
    failures = identifier_failures(call.account, contact, entry)
    if failures:
        raise _refuse(failures)
    before, joined = contact.data, contact.lists
    contact.fields = {}
    written = write_entry(call.account, contact, entry, "overwrite", Source("contact", call.now))
    if written.contact is None:
        contact.data = before
        raise _refuse(written.failures)
    kept = [] if entry.lists is UNSET else [one for one in entry.lists if isinstance(one, int)]
    call.account.lists.leave(contact, [one for one in joined if one not in kept])
    return reply(200, _shown(call.account, contact))


def delete_contact(call: Call) -> httpx.Response:
    """`DELETE /contacts/v3/{identifier}/{value}`: a suppressed contact stays."""
    contact = required_contact(call)
    if contact.email_status in _UNDELETABLE:
        raise v3_refusal(400, "contacts:invalidContactStatus", "A suppressed contact can't be deleted")
    call.account.jobs.write_beside_import(call.now, f"contact:{contact.key}")
    remove_contacts(call.account, [contact], call.now, "")
    return reply(200, {"contactId": contact.contact_id})


def remove_contacts(account: Account, contacts: list[Contact], now: float, job_id: str) -> None:
    """Delete contacts and their Insight records."""
    gone = {contact.contact_id for contact in contacts}
    for contact in contacts:
        account.contacts.take_out(contact, keep=account.options.recycle_bin)
        account.lists.leave(contact, list(contact.lists))
        account.ledger.write(WriteLine(now, "contact_delete", contact.key, job_id, b"", contact.written))
        contact.written = b""
    for collection in account.collections.values():
        collection.remove_owned_by(gone)
