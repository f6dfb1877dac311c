"""Writing Insight records: the same checks for imports and single calls."""

import re
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import msgspec

from sandbox.dotdigital.account import Account
from sandbox.dotdigital.contact_writes import STANDARD
from sandbox.dotdigital.contacts import Contact
from sandbox.dotdigital.insight import Collection, Record, Refusal, catalogue_problems
from sandbox.dotdigital.ledger import WriteLine, digest
from sandbox.dotdigital.requests import Identity
from sandbox.dotdigital.schema import UnfitError
from sandbox.dotdigital.values import is_email

# What the v3 file has instead, where a reason is declared by the v2 API only.
_OPENAPI_REASONS = {
    "JsonContainsDashUnderscoreClash": "JsonKeyInvalidCharacters",
    "KeyExistingForDifferentContact": "DuplicateKey",
    "ContactPhoneNumberDoesNotExist": "InvalidContactIdentifier",
    "ContactCustomIdentifierValueDoesNotExist": "InvalidContactIdentifier",
}
_UNKNOWN_CONTACT = {
    "contactId": "ContactIdDoesNotExist",
    "email": "ContactEmailDoesNotExist",
    "mobileNumber": "ContactPhoneNumberDoesNotExist",
}


class Origin(NamedTuple):
    """Where a write comes from; `kind` is the ledger's."""

    at: float
    import_id: str = ""
    kind: Literal["insight", "insight_delete"] = "insight"


def ledger_key(collection: Collection, key: str) -> str:
    """What the ledger calls a record."""
    return f"{collection.name}/{key}"


def declared(account: Account, reason: str) -> str:
    """The reason, or what the v3 OpenAPI file has for it."""
    return reason if account.options.leaked_reasons else _OPENAPI_REASONS.get(reason, reason)


def owner_of(account: Account, identity: Identity) -> Contact | Refusal:
    """The contact that a record names."""
    name, value = identity.identifier, identity.value
    known = STANDARD.union(account.options.custom_identifiers)
    wrong = name == "email" and not is_email(value or "")
    if name not in known or not value or wrong:
        return Refusal("InvalidContactIdentifier", (f"No contact can be found by '{name}'",))
    contact = account.contacts.find(name, value)
    if contact is None:
        return Refusal(_UNKNOWN_CONTACT.get(name, "ContactCustomIdentifierValueDoesNotExist"))
    return contact


def _document(raw: bytes) -> dict[str, Any] | None:
    """The object, or None where it is no object, too deep, or has a number that no double can hold."""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None


@lru_cache(maxsize=8)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


def write_record(
    account: Account, collection: Collection, key: str, owner: int | None, raw: bytes, origin: Origin
) -> bool | Refusal:
    """Create or replace a record: whether it was created, or why it was refused."""
    options = account.options
    if not _pattern(options.record_key_pattern).fullmatch(key):
        return Refusal("InvalidClientKey", ("The key has characters that are not allowed, or is too long",))
    document = _document(raw)
    if document is None:
        return Refusal("InvalidJson", ("The json is not an object, or can't be read",))
    problems = (
        catalogue_problems(document) if options.typed_collections and collection.kind == "catalog" else ()
    )
    if problems:
        return Refusal("Unknown", problems)
    before = collection.find(key)
    if before is not None and before.owner != owner:
        return Refusal("KeyExistingForDifferentContact")
    try:
        collection.schema.fit(document, options.insight_text_limit, options.insight_key_limit)
    except UnfitError as error:
        return Refusal(error.reason, (error.detail,))
    record, created = collection.put(key, owner, raw, origin.at)
    content = digest(document)
    account.ledger.write(
        WriteLine(
            origin.at, origin.kind, ledger_key(collection, key), origin.import_id, content, record.written
        )
    )
    record.written = content
    return created


def delete_record(account: Account, collection: Collection, record: Record, now: float) -> None:
    """Delete a record."""
    collection.remove(record)
    account.ledger.write(
        WriteLine(now, "insight_delete", ledger_key(collection, record.key), "", b"", record.written)
    )
