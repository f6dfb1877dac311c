"""Reading bodies: what is wrong with one is answered 400, with the place."""

import re
from typing import Literal, TypeVar

import msgspec
from msgspec import UNSET

from sandbox.dotdigital.errors import RefusedCall, v3_refusal, wrong_value
from sandbox.dotdigital.options import Options
from sandbox.dotdigital.requests import (
    INT32,
    ContactEntry,
    ContactImport,
    ImportEntry,
    LenientContactImport,
    MergeOption,
    RawContactImport,
)
from sandbox.dotdigital.times import parsed

T = TypeVar("T")
Service = Literal["contacts", "insightData"]

EMAIL_TYPES = {"plaintext": "PlainText", "html": "Html"}
OPT_IN_TYPES = {
    "unknown": "Unknown",
    "single": "Single",
    "double": "Double",
    "verifieddouble": "VerifiedDouble",
}
_PLACE = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>\$[^`]*)`)?", re.DOTALL)


def decode(kind: type[T], body: bytes, service: Service) -> T:
    """The body as a value of the given kind.

    Raises:
        RefusedCall: 400; the description says where, with indexes.
    """
    try:
        if not body.isascii():
            body.decode()  # parts that are kept raw are not decoded otherwise
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _structural(str(error), service) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise v3_refusal(
            400, f"{service}:badJson", "The request JSON is badly formed", [("body", str(error))]
        ) from error


def _structural(problem: str, service: Service) -> RefusedCall:
    found = _PLACE.fullmatch(problem)
    what, path = (found["what"], found["path"] or "$") if found else (problem, "$")
    path = path.removeprefix("$").removeprefix(".") or "body"
    if what.startswith("Invalid enum value"):
        return wrong_value(service, path, what)
    text = f"{what}, path {path}"
    return v3_refusal(400, "server:badRequest", f"Bad request: {text}", [(path, what)])


def read_contact_import(body: bytes, options: Options) -> tuple[list[ImportEntry | str], MergeOption]:
    """The contacts of an import and its merge option.

    With `structural_errors="report"`, a contact that can't be read is the text of what is wrong with it.

    Raises:
        RefusedCall: 400.
    """
    kind: type[ContactImport | LenientContactImport] = ContactImport
    if options.unknown_keys == "ignore":
        kind = LenientContactImport
    try:
        whole = decode(kind, body, "contacts")
        for index, entry in enumerate(whole.contacts):
            check_entry(entry, f"contacts[{index}]", options)
    except RefusedCall:
        if options.structural_errors == "reject":
            raise
        return _read_one_by_one(body, options)
    return [*whole.contacts], whole.merge_option


def _read_one_by_one(body: bytes, options: Options) -> tuple[list[ImportEntry | str], MergeOption]:
    whole = decode(RawContactImport, body, "contacts")
    entries: list[ImportEntry | str] = []
    for index, raw in enumerate(whole.contacts):
        try:
            entry = decode(ImportEntry, bytes(raw), "contacts")
            check_entry(entry, f"contacts[{index}]", options)
            entries.append(entry)
        except RefusedCall as refusal:
            entries.append(msgspec.json.decode(refusal.response.content)["description"])
    return entries, whole.merge_option


def check_entry(entry: ContactEntry, path: str, options: Options) -> None:
    """What the OpenAPI file says of a contact and a decoder can't.

    Args:
        entry: the contact.
        path: where it is, `contacts[3]`; empty for the body itself.
        options: which leniencies are on.

    Raises:
        RefusedCall: 400.
    """
    prefix = f"{path}." if path else ""
    for name, value in entry.identifiers.items():
        kind = int if name == "contactId" else str
        if value.__class__ is not kind:
            wanted = "an integer" if kind is int else "a string"
            raise _structural(f"Expected {wanted} - at `$.{prefix}identifiers.{name}`", "contacts")
    if entry.lists is not UNSET:
        _check_lists(entry.lists, prefix, options)
    if entry.channel_properties is not UNSET:
        _check_channels(entry, prefix)
    if entry.consent_records is not UNSET:
        for index, record in enumerate(entry.consent_records):
            if parsed(record.date_time_consented) is None:
                raise wrong_value("contacts", f"{prefix}consentRecords[{index}].dateTimeConsented")


def _check_lists(list_ids: list[int | str], prefix: str, options: Options) -> None:
    for index, list_id in enumerate(list_ids):
        if isinstance(list_id, str):
            if options.text_lists == "reject":
                raise _structural(f"Expected `int`, got `str` - at `$.{prefix}lists[{index}]`", "contacts")
        elif not -INT32 <= list_id <= INT32:
            raise wrong_value("contacts", f"{prefix}lists[{index}]", "not an int32")


def _check_channels(entry: ContactEntry, prefix: str) -> None:
    email = entry.channel_properties.email if entry.channel_properties is not UNSET else UNSET
    if email is UNSET:
        return
    if email.email_type is not UNSET and email.email_type.lower() not in EMAIL_TYPES:
        raise wrong_value("contacts", f"{prefix}channelProperties.email.emailType")
    if email.opt_in_type is not UNSET and email.opt_in_type.lower() not in OPT_IN_TYPES:
        raise wrong_value("contacts", f"{prefix}channelProperties.email.optInType")


def consent_fields(entry: ContactEntry) -> list[str]:
    """Which parts of an entry touch consent: the tripwire's view."""
    channels = entry.channel_properties
    if channels is UNSET:
        return []
    touched: list[str] = []
    if channels.email is not UNSET:
        parts = {
            "email.status": channels.email.status,
            "email.optInType": channels.email.opt_in_type,
            "email.resubscribeOptions": channels.email.resubscribe_options,
        }
        touched += [name for name, value in parts.items() if value is not UNSET]
    if channels.sms is not UNSET and channels.sms.status is not UNSET:
        touched.append("sms.status")
    if channels.whats_app is not UNSET and channels.whats_app.status is not UNSET:
        touched.append("whatsApp.status")
    return touched
