"""Contact data fields (v2): the calls, and what a field accepts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

from sandbox.dotdigital.call import Call
from sandbox.dotdigital.errors import reply, v2_refusal
from sandbox.dotdigital.values import KEPT_AS, FieldType, WrongValueError

_TYPES: dict[str, FieldType] = {
    "string": "String",
    "numeric": "Numeric",
    "date": "Date",
    "boolean": "Boolean",
}
_VISIBILITIES = {"private": "Private", "public": "Public"}
_NAME = re.compile(r"[A-Za-z0-9_-]{1,20}")
_RESERVED = frozenset(
    {
        "ACCOUNT",
        "CAMPAIGN",
        "CAMPAIGNID",
        "CONTACT",
        "CONTACT_API_ID",
        "CONTACTID",
        "EMAIL",
        "HCONTACTID",
        "HEMAIL",
        "HEMAIL256",
        "ID",
        "MESSAGECONTENT",
        "MOBILENUMBERID",
        "NOTES",
        "UNSUBSCRIBED",
        "UNIQUECONTACTID",
    }
)
_BUILT_IN: dict[str, FieldType] = {
    "FIRSTNAME": "String",
    "LASTNAME": "String",
    "FULLNAME": "String",
    "GENDER": "String",
    "POSTCODE": "String",
    "LASTSUBSCRIBED": "Date",
}


@dataclass(frozen=True, slots=True)
class DataField:
    """A data field; `default_value` is only kept, it is never put into a contact."""

    name: str
    type: FieldType
    visibility: str
    default_value: Any = None

    def shown(self) -> dict[str, Any]:
        """As a call shows it."""
        return {
            "name": self.name,
            "type": self.type,
            "visibility": self.visibility,
            "defaultValue": self.default_value,
        }


class DataFields:
    """An account's data fields; a name is matched in any case and kept in upper case."""

    def __init__(self) -> None:
        self._fields = {name: DataField(name, kind, "Public") for name, kind in _BUILT_IN.items()}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._fields)

    def __iter__(self) -> Iterator[DataField]:
        """All of them."""
        return iter(self._fields.values())

    def names(self) -> tuple[str, ...]:
        """All names."""
        return tuple(self._fields)

    def find(self, name: str) -> DataField | None:
        """A field by its name in any case."""
        return self._fields.get(name) or self._fields.get(name.upper())

    def add(self, field: DataField) -> None:
        """Put a field in."""
        self._fields[field.name] = field

    def remove(self, name: str) -> None:
        """Take a field out."""
        del self._fields[name]

    @staticmethod
    def is_built_in(name: str) -> bool:
        """Whether every account has it."""
        return name in _BUILT_IN


def get_data_fields(call: Call) -> httpx.Response:
    """`GET /v2/data-fields`."""
    return reply(200, [field.shown() for field in call.account.fields])


def post_data_field(call: Call) -> httpx.Response:
    """`POST /v2/data-fields`: keys and words in any case, as v2 takes them."""
    fields = call.account.fields
    try:
        body = msgspec.json.decode(call.body)
    except msgspec.DecodeError as error:
        raise v2_refusal(400, "ERROR_DATAFIELD_INVALID", "The body is not JSON") from error
    given = {key.lower(): value for key, value in body.items()} if isinstance(body, dict) else {}
    name = given.get("name")
    kind = _TYPES.get(str(given.get("type")).lower())
    visibility = _VISIBILITIES.get(str(given.get("visibility") or "private").lower())
    unknown = given.keys() - {"name", "type", "visibility", "defaultvalue"}
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.upper() in _RESERVED:
        raise v2_refusal(400, "ERROR_DATAFIELD_INVALID", "The name is missing, reserved or too long")
    if kind is None or visibility is None or unknown:
        raise v2_refusal(400, "ERROR_DATAFIELD_INVALID", "The type, the visibility or a key is wrong")
    if fields.find(name) is not None:
        raise v2_refusal(400, "ERROR_NON_UNIQUE_DATAFIELD", "Field already exists")
    if len(fields) >= call.account.options.data_field_limit:
        raise v2_refusal(400, "ERROR_DATAFIELD_LIMITEXCEEDED")
    default = _default(kind, given.get("defaultvalue"), call.account.options.text_limit)
    field = DataField(name.upper(), kind, visibility, default)
    fields.add(field)
    return reply(201, field.shown())


def _default(kind: FieldType, value: Any, limit: int) -> Any:  # noqa: ANN401 - any JSON
    if value is None:
        return None
    if kind == "Boolean" and str(value).lower() in {"true", "false", "yes", "no"}:
        return str(value).lower() in {"true", "yes"}
    try:
        number = float(value) if kind == "Numeric" and isinstance(value, str) else value
        return KEPT_AS[kind](number, limit)
    except ValueError as error:
        text = f"The default value is wrong: {error}" if isinstance(error, WrongValueError) else None
        raise v2_refusal(400, "ERROR_DATAFIELD_INVALID", text) from error


def delete_data_field(call: Call) -> httpx.Response:
    """`DELETE /v2/data-fields/{name}`: built-in ones stay, and say so."""
    field = call.account.fields.find(call.params["name"])
    if field is None:
        raise v2_refusal(404, "ERROR_DATAFIELD_NOTFOUND")
    if DataFields.is_built_in(field.name):
        return reply(200, {"dependencies": ["Built-in data field"], "result": False})
    call.account.fields.remove(field.name)
    for contact in call.account.contacts:
        values = contact.fields
        if values.pop(field.name, None) is not None:
            contact.fields = values
    return reply(200, {"dependencies": [], "result": True})
