"""Writing a contact: identifiers, data fields, channels, lists; the same for imports and single calls."""

import ipaddress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

from msgspec import UNSET, to_builtins

from sandbox.dotdigital.account import Account
from sandbox.dotdigital.contacts import Contact
from sandbox.dotdigital.ledger import Violation, WriteLine, digest
from sandbox.dotdigital.requests import ContactEntry, EmailChannel, MergeOption
from sandbox.dotdigital.times import stamp
from sandbox.dotdigital.validation import EMAIL_TYPES, OPT_IN_TYPES, consent_fields
from sandbox.dotdigital.values import KEPT_AS, WrongValueError, is_email, is_mobile

STANDARD = frozenset({"contactId", "email", "mobileNumber"})
_RESUBSCRIBABLE = frozenset({"subscribed", "noSubscription"})


class Failure(NamedTuple):
    """Why a contact was not written, or not all of it. `path` is where, inside the entry."""

    code: str
    description: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of an entry: a contact, failures, or (saved in part) both."""

    contact: Contact | None
    created: bool
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Where a write comes from."""

    kind: Literal["contact", "contact_patch"]
    at: float
    import_id: str = ""


def match_key(entry: ContactEntry) -> str:
    """The value that an entry is matched by, in its one form; empty where it has none."""
    name = entry.match_identifier
    if name is UNSET or name not in entry.identifiers:
        return ""
    text = str(entry.identifiers[name])
    return text.lower() if name == "email" else f"{name}={text}"


def import_entry(account: Account, entry: ContactEntry, merge: MergeOption, source: Source) -> Written:
    """Match an entry of an import to a contact, and write it."""
    name = entry.match_identifier
    if not entry.identifiers:
        return _failed(Failure("NoValidIdentifiers", "no identifier is given", "identifiers"))
    if name is UNSET or name not in entry.identifiers or name not in _known_identifiers(account):
        return _failed(
            Failure("InvalidMatchIdentifier", f"'{name}' is not given, or not known", "identifiers")
        )
    contact = account.contacts.find(name, entry.identifiers[name])
    if contact is None and name == "contactId":
        return _failed(Failure("InvalidContactId", "no contact has this id", "identifiers.contactId"))
    return write_entry(account, contact, entry, merge, source)


def write_entry(
    account: Account, contact: Contact | None, entry: ContactEntry, merge: MergeOption, source: Source
) -> Written:
    """Write an entry to a contact, or to a new one where there is none.

    Nothing is written if an identifier, a data field or a list is wrong.
    """
    failures = identifier_failures(account, contact, entry)
    changes: dict[str, Any] = {}
    if not failures:
        failures = _read_fields(account, entry, changes) + _other_failures(account, contact, entry)
    if failures:
        return _failed(*failures)
    contact = contact or account.contacts.restore(str(entry.identifiers.get("email", "")))
    created = contact is None
    if contact is None:
        contact = account.contacts.new(source.at)
        contact.email_status = "pendingOptIn" if _needs_opt_in(account, entry) else "subscribed"
        if contact.email_status == "pendingOptIn":
            account.mails["confirm_opt_in"] += 1
    account.contacts.identify(contact, entry.identifiers)
    _write_fields(contact, changes, merge)
    _write_channels(account, contact, entry, source, created=created)
    if entry.lists is not UNSET and (created or contact.email_status != "pendingOptIn"):
        account.lists.join(contact, cast("list[int]", entry.lists))
    if entry.preferences is not UNSET:
        contact.preferences = {
            **(contact.preferences or {}),
            **{one.id: one.is_opted_in for one in entry.preferences},
        }
    warnings = _write_consents(contact, entry, source.at)
    contact.updated = source.at
    content = digest(entry)
    account.ledger.write(
        WriteLine(source.at, source.kind, contact.key, source.import_id, content, contact.written)
    )
    contact.written = content
    return Written(contact, created, warnings)


def _failed(*failures: Failure) -> Written:
    return Written(None, created=False, failures=failures)


def _known_identifiers(account: Account) -> frozenset[str]:
    return STANDARD.union(account.options.custom_identifiers)


def identifier_failures(
    account: Account, contact: Contact | None, entry: ContactEntry
) -> tuple[Failure, ...]:
    """What is wrong with an entry's identifiers, if it is written to this contact (None: a new one)."""
    found: list[Failure] = []
    known = _known_identifiers(account)
    for name, value in entry.identifiers.items():
        path, text = f"identifiers.{name}", str(value)
        if name not in known:
            found.append(Failure("ApiSchemaViolation", f"no identifier is called '{name}'", path))
        elif name == "email" and not is_email(text):
            found.append(Failure("InvalidEmail", f"Invalid value for '{name}'", path))
        elif name == "email" and text.lower() in account.options.globally_suppressed:
            found.append(Failure("GloballySuppressed", "the e-mail is suppressed everywhere", path))
        elif name == "mobileNumber" and not is_mobile(text):
            found.append(Failure("InvalidPhoneNumber", f"Invalid value for '{name}'", path))
        elif name != "contactId":
            owner = account.contacts.find(name, text)
            if owner is not None and owner is not contact:
                found.append(Failure("Duplicate", f"the {name} belongs to another contact", path))
    if contact is None and not found and not entry.identifiers.keys() & {"email", "mobileNumber"}:
        found.append(
            Failure("NoValidIdentifiers", "a contact needs an email or a mobileNumber", "identifiers")
        )
    return tuple(found)


def _read_fields(account: Account, entry: ContactEntry, changes: dict[str, Any]) -> tuple[Failure, ...]:
    found: list[Failure] = []
    fields, options = account.fields, account.options
    for name, value in ({} if entry.data_fields is UNSET else entry.data_fields).items():
        field = fields.find(name)
        path = f"dataFields.{name}"
        if field is None:
            if options.unknown_data_fields == "fail":
                found.append(Failure("ApiSchemaViolation", f"no data field is called '{name}'", path))
        elif value is None:
            changes[field.name] = None
        else:
            try:
                changes[field.name] = KEPT_AS[field.type](value, options.text_limit)
            except WrongValueError as error:
                found.append(Failure("ApiSchemaViolation", f"{field.type} '{field.name}': {error}", path))
    return tuple(found)


def _other_failures(account: Account, contact: Contact | None, entry: ContactEntry) -> tuple[Failure, ...]:
    if contact is not None and contact.email_status == "pendingOptIn" and _asks_to_subscribe(entry):
        path = "channelProperties.email.status"
        return (Failure("InvalidContactStatus", "the channel status does not allow resubscribing", path),)
    for index, list_id in enumerate([] if entry.lists is UNSET else entry.lists):
        path = f"lists[{index}]"
        if isinstance(list_id, str):
            return (Failure("ApiSchemaViolation", "a list id is an integer", path),)
        if account.lists.find(list_id) is None:
            return (Failure("InvalidAddressBookIds", f"no list has the id {list_id}", path),)
    return ()


def _write_fields(contact: Contact, changes: dict[str, Any], merge: MergeOption) -> None:
    if not changes:
        return
    values = contact.fields
    for name, value in changes.items():
        if merge == "overwriteIfNotEmpty" and value in {None, ""}:
            continue
        if merge == "overwriteIfEmpty" and values.get(name) not in {None, ""}:
            continue
        if value is None:
            values.pop(name, None)
        else:
            values[name] = value
    contact.fields = values


def _needs_opt_in(account: Account, entry: ContactEntry) -> bool:
    if "email" not in entry.identifiers:
        return False
    channels = entry.channel_properties
    opt_in = channels.email.opt_in_type if channels is not UNSET and channels.email is not UNSET else UNSET
    return account.options.double_opt_in or (opt_in is not UNSET and opt_in.lower() == "verifieddouble")


def _asks_to_subscribe(entry: ContactEntry) -> bool:
    channels = entry.channel_properties
    email = channels.email if channels is not UNSET else UNSET
    return email is not UNSET and email.status == "subscribed"


def _write_channels(
    account: Account, contact: Contact, entry: ContactEntry, source: Source, *, created: bool
) -> None:
    channels = entry.channel_properties
    if channels is UNSET:
        return
    if channels.email is not UNSET:
        email = channels.email
        if email.email_type is not UNSET:
            contact.email_type = EMAIL_TYPES[email.email_type.lower()]
        if email.opt_in_type is not UNSET:
            contact.opt_in_type = OPT_IN_TYPES[email.opt_in_type.lower()]
        if email.status is not UNSET and not (created and contact.email_status == "pendingOptIn"):
            _write_status(account, contact, email, email.status, source)
    if channels.sms is not UNSET and channels.sms.status is not UNSET:
        contact.sms_status = channels.sms.status
    if channels.whats_app is not UNSET and channels.whats_app.status is not UNSET:
        contact.whats_app_status = channels.whats_app.status


def _write_status(
    account: Account, contact: Contact, email: EmailChannel, status: str, source: Source
) -> None:
    if status == "subscribed" and contact.email_status not in _RESUBSCRIBABLE:
        account.ledger.violation(Violation(source.at, "resubscribe_attempted", contact.key, source.import_id))
        options = email.resubscribe_options
        silent = account.options.resubscribe == "silent"
        if not silent or (options is not UNSET and not options.resubscribe_with_no_challenge):
            account.mails["resubscribe_challenge"] += 1
            return
    contact.email_status = status


def note_consent(account: Account, entry: ContactEntry, now: float, import_id: str) -> None:
    """Trip the wire if an entry carries a channel status, an opt-in type or a resubscribe option."""
    touched = consent_fields(entry)
    if touched:
        detail = f"{import_id} {' '.join(touched)}".strip()
        account.ledger.violation(Violation(now, "consent_fields", match_key(entry), detail))


def _write_consents(contact: Contact, entry: ContactEntry, now: float) -> tuple[Failure, ...]:
    if entry.consent_records is UNSET:
        return ()
    for index, record in enumerate(entry.consent_records):
        try:
            ipaddress.ip_address(record.ip_address)
        except ValueError:
            text = "The provided consent records could not be applied as they were incorrectly formatted"
            return (Failure("ConsentRecordsNotApplied", text, f"consentRecords[{index}].ipAddress"),)
    shown = [{**to_builtins(record), "dateTimeCreated": stamp(now)} for record in entry.consent_records]
    contact.consents = [*(contact.consents or []), *shown]
    return ()
