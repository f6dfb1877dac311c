"""Contact imports and bulk deletions: accepted now, carried out later, reported."""

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any
from uuid import UUID

import httpx

from sandbox.dotdigital.account import Account
from sandbox.dotdigital.call import Call
from sandbox.dotdigital.contact_calls import remove_contacts
from sandbox.dotdigital.contact_writes import (
    STANDARD,
    Failure,
    Source,
    Written,
    import_entry,
    match_key,
    note_consent,
)
from sandbox.dotdigital.contacts import Contact
from sandbox.dotdigital.errors import raw_reply, reply, v3_refusal
from sandbox.dotdigital.ledger import Violation
from sandbox.dotdigital.requests import ImportEntry, MergeOption
from sandbox.dotdigital.validation import decode, read_contact_import

_OPENAPI_CODES: Mapping[str, str] = MappingProxyType({"Duplicate": "duplicateIdentifier"})
_MAX_DELETE = 5000
_SLOTS_FULL = (
    "too many imports are being processed for the account; wait for one to complete and send it again"
)


def put_import(call: Call) -> httpx.Response:
    """`PUT /contacts/v3/import`."""
    account = call.account
    if account.jobs.open_count("contact_import") >= account.options.contact_import_slots:
        account.ledger.violation(Violation(call.now, "call_answered_429", f"PUT {call.template}", "slots"))
        raise v3_refusal(429, "contacts:tooManyActiveImports", _SLOTS_FULL)
    entries, merge = read_contact_import(call.body, account.options)
    matched = dict.fromkeys(match_key(entry) for entry in entries if not isinstance(entry, str))
    keys = [f"contact:{key}" for key in matched if key]
    work = _ContactImport(account, entries, merge)
    job = account.jobs.open(call, "contact_import", len(entries), work, keys)
    work.import_id = job.id
    for entry in entries:
        if not isinstance(entry, str):
            note_consent(account, entry, call.now, job.id)
    return reply(202, {"importId": job.id})


class _ContactImport:
    """An import's work: entries in order, and the report."""

    def __init__(self, account: Account, entries: Sequence[ImportEntry | str], merge: MergeOption) -> None:
        self._account = account
        self._entries = entries
        self._merge = merge
        self.import_id = ""

    def __call__(self, at: float, count: int) -> dict[str, Any]:
        created: list[dict[str, Any]] = []
        updated: list[dict[str, Any]] = []
        failures: list[dict[str, Any]] = []
        counts = {"globallySuppressed": 0, "invalidEntries": 0, "duplicateIdentifiers": 0}
        repeated = self._repeated()
        seen: set[str] = set()
        for entry in self._entries[:count]:
            if isinstance(entry, str):
                written = Written(None, created=False, failures=(Failure("ApiSchemaViolation", entry),))
            else:
                written = self._import(entry, seen, repeated, at)
            if written.contact is not None:
                (created if written.created else updated).append(written.contact.reference())
            if written.failures:
                codes = {failure.code for failure in written.failures}
                self._account.ledger.failure(written.failures[0].code)
                failures.append(self._failure(entry, written.failures))
                if written.contact is None:
                    counts[_bucket(codes)] += 1
        summary = {"newContacts": len(created), "updatedContacts": len(updated), **counts}
        return {"summary": summary, "created": created, "updated": updated, "failures": failures}

    def _repeated(self) -> set[str]:
        if self._account.options.duplicates == "first_wins":
            return set()
        seen: set[str] = set()
        again: set[str] = set()
        for entry in self._entries:
            key = "" if isinstance(entry, str) else match_key(entry)
            (again if key in seen else seen).add(key)
        return again - {""}

    def _import(self, entry: ImportEntry, seen: set[str], repeated: set[str], at: float) -> Written:
        key = match_key(entry)
        if key in repeated or (key and key in seen):
            text = f"Duplicate identifier detected for {entry.match_identifier}"
            return Written(None, created=False, failures=(Failure("Duplicate", text),))
        seen.add(key)
        return import_entry(self._account, entry, self._merge, Source("contact", at, self.import_id))

    def _failure(self, entry: ImportEntry | str, failures: Sequence[Failure]) -> dict[str, Any]:
        openapi = self._account.options.failure_codes == "openapi"
        listed = [
            {
                "failureCode": _OPENAPI_CODES.get(failure.code, failure.code[0].lower() + failure.code[1:])
                if openapi
                else failure.code,
                "description": failure.description,
            }
            for failure in failures
        ]
        if isinstance(entry, str):
            return {"matchIdentifier": "unknown", "identifiers": {}, "failures": listed}
        shown = {name: value for name, value in entry.identifiers.items() if name != "contactId"}
        row: dict[str, Any] = {
            "matchIdentifier": entry.match_identifier,
            "identifiers": shown,
            "failures": listed,
        }
        known = self._account.contacts.find(
            str(entry.match_identifier), entry.identifiers.get(str(entry.match_identifier), "")
        )
        if known is not None:
            row["contactId"] = known.contact_id
        return row


def _bucket(codes: set[str]) -> str:
    if "GloballySuppressed" in codes:
        return "globallySuppressed"
    return "duplicateIdentifiers" if "Duplicate" in codes else "invalidEntries"


def is_uuid(text: str) -> bool:
    """Whether it can be the id of a job."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def get_import(call: Call) -> httpx.Response:
    """`GET /contacts/v3/import/{importId}`."""
    import_id = call.params["importId"]
    if not is_uuid(import_id):
        raise v3_refusal(400, "contacts:invalidId", f"The id value '{import_id}' is invalid")
    job = call.account.jobs.find(import_id, "contact_import")
    if job is None:
        text = f"The import request '{import_id}' could not be found!"
        raise v3_refusal(404, "contacts:importNotFound", text)
    return raw_reply(200, job.shown("importId", job.state))


def post_delete(call: Call) -> httpx.Response:
    """`POST /contacts/v3/delete`."""
    account = call.account
    if account.jobs.open_count("contact_delete") >= account.options.delete_slots:
        raise v3_refusal(429, "contacts:tooManyBulkDeleteJobs", "too many bulk delete jobs; send it again")
    references = decode(list[dict[str, str | int]], call.body, "contacts")
    if not references:
        raise v3_refusal(400, "contacts:noContactsSpecified", "You must specify 1 or more contacts")
    if len(references) > _MAX_DELETE:
        raise v3_refusal(400, "contacts:invalidContacts", f"More than {_MAX_DELETE} contacts")
    for index, reference in enumerate(references):
        wrong = any((name == "contactId") is not isinstance(value, int) for name, value in reference.items())
        if len(reference) != 1 or wrong:
            raise v3_refusal(400, "contacts:invalidContacts", f"[{index}] names no contact")
    work = partial(_delete, account, references)
    keys = [f"contact:{key}" for key in dict.fromkeys(map(_reference_key, references))]
    job = account.jobs.open(call, "contact_delete", len(references), work, keys)
    return reply(202, {"deleteId": job.id})


def _reference_key(reference: dict[str, str | int]) -> str:
    ((name, value),) = reference.items()
    return str(value).lower() if name == "email" else f"{name}={value}"


def _delete(
    account: Account, references: Sequence[dict[str, str | int]], at: float, count: int
) -> dict[str, Any]:
    known = STANDARD.union(account.options.custom_identifiers)
    deleted: list[dict[str, str | int]] = []
    contacts: list[Contact] = []
    failures: list[dict[str, Any]] = []
    counts = {"unknownContacts": 0, "invalidEntries": 0}
    for reference in references[:count]:
        ((name, value),) = reference.items()
        contact = account.contacts.find(name, value)
        if name not in known:
            counts["invalidEntries"] += 1
            failures.append(_delete_failure(reference, "invalidIdentifier", f"no identifier '{name}'"))
        elif contact is None or contact in contacts:
            counts["unknownContacts"] += 1
            failures.append(_delete_failure(reference, "contactNotFound", "The contact could not be found"))
        elif contact.email_status == "suppressed":
            counts["invalidEntries"] += 1
            failures.append(_delete_failure(reference, "invalidContactStatus", "The contact is suppressed"))
        else:
            deleted.append(reference)
            contacts.append(contact)
    remove_contacts(account, contacts, at, "")
    summary = {"requestedContacts": len(references), "deletedContacts": len(deleted), **counts}
    return {"summary": summary, "deleted": deleted, "failures": failures}


def _delete_failure(reference: dict[str, str | int], code: str, text: str) -> dict[str, Any]:
    return {"identifier": reference, "failures": [{"failureCode": code, "description": text}]}


def get_delete(call: Call) -> httpx.Response:
    """`GET /contacts/v3/delete/{deleteId}`."""
    delete_id = call.params["deleteId"]
    if not is_uuid(delete_id):
        text = f"The id value '{delete_id}' is not a recognized deletion job identifier"
        raise v3_refusal(400, "contacts:invalidDeleteId", text)
    job = call.account.jobs.find(delete_id, "contact_delete")
    if job is None:
        text = f"The delete request '{delete_id}' could not be found!"
        raise v3_refusal(404, "contacts:importNotFound", text)
    return raw_reply(200, job.shown("deleteId", job.state))
