"""Lists, which v2 calls address books: the calls, and who is on which."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from sandbox.dotdigital.call import Call
from sandbox.dotdigital.errors import RefusedCall, reply, v2_refusal

if TYPE_CHECKING:
    from sandbox.dotdigital.contacts import Contact

_VISIBILITIES = {"private": "Private", "public": "Public"}
_MAX_NAME = 128
_MAX_SELECT = 1000
_FIRST_ID = 345_001
_TEST = "Test"
_RESERVED = frozenset({"test", "all contacts"})


@dataclass(slots=True)
class ContactList:
    """A list; `contacts` is how many are on it."""

    id: int
    name: str
    visibility: str
    contacts: int = 0

    def shown(self) -> dict[str, Any]:
        """As a call shows it."""
        return {
            "id": self.id,
            "name": self.name,
            "visibility": self.visibility,
            "contacts": self.contacts,
        }


class Lists:
    """An account's lists. Every account has one called Test, which can't be written."""

    def __init__(self) -> None:
        self._lists = {1: ContactList(1, _TEST, "Private")}
        self._next_id = _FIRST_ID
        self._sets: dict[tuple[int, ...], tuple[int, ...]] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._lists)

    def __iter__(self) -> Iterator[ContactList]:
        """All of them, by id."""
        return iter(self._lists.values())

    def find(self, list_id: int) -> ContactList | None:
        """A list by its id."""
        return self._lists.get(list_id)

    def named(self, name: str) -> ContactList | None:
        """A list by its name in any case."""
        return next((one for one in self._lists.values() if one.name.lower() == name.lower()), None)

    def create(self, name: str, visibility: str) -> ContactList:
        """A new list."""
        created = ContactList(self._next_id, name, visibility)
        self._lists[created.id] = created
        self._next_id += 1
        return created

    def remove(self, list_id: int) -> None:
        """Delete a list; memberships of it are gone from sight."""
        del self._lists[list_id]

    def join(self, contact: "Contact", list_ids: list[int]) -> None:
        """Put a contact on lists; it stays on those that it is on."""
        for list_id in list_ids:
            if list_id not in contact.lists:
                joined = (*contact.lists, list_id)
                contact.lists = self._sets.setdefault(joined, joined)
                self._lists[list_id].contacts += 1

    def leave(self, contact: "Contact", list_ids: list[int]) -> None:
        """Take a contact off lists that it is on."""
        for list_id in list_ids:
            if list_id in self._lists:
                self._lists[list_id].contacts -= 1
        contact.lists = tuple(one for one in contact.lists if one not in list_ids)

    def memberships(self, contact: "Contact") -> list[dict[str, Any]]:
        """As a contact shows them."""
        status = {"pendingOptIn": "pending", "subscribed": "subscribed"}.get(contact.status, "suppressed")
        return [
            {"id": list_id, "name": self._lists[list_id].name, "status": status}
            for list_id in contact.lists
            if list_id in self._lists
        ]


def get_lists(call: Call) -> httpx.Response:
    """`GET /v2/address-books`, `…/public` and `…/private`, by select (or `limit`, as one page says) and skip."""
    wanted = call.template.rpartition("/")[2].capitalize()
    shown = [one for one in call.account.lists if wanted in {one.visibility, "Address-books"}]
    select = _number(call, "select", _number(call, "limit", _MAX_SELECT))
    skip = _number(call, "skip", 0)
    if not 1 <= select <= _MAX_SELECT:
        raise v2_refusal(400, "ERROR_PARAMETER_INVALID", f"select is 1 to {_MAX_SELECT}")
    return reply(200, [one.shown() for one in shown[skip : skip + select]])


def _number(call: Call, name: str, default: int) -> int:
    text = call.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise v2_refusal(400, "ERROR_PARAMETER_INVALID", f"{name} is not a number")
    return int(text)


def get_list(call: Call) -> httpx.Response:
    """`GET /v2/address-books/{id}`."""
    return reply(200, _find(call).shown())


def _find(call: Call) -> ContactList:
    text = call.params["id"]
    if not (text.isascii() and text.isdigit()):
        raise v2_refusal(400, "ERROR_PARAMETER_INVALID", "The id is not a number")
    found = call.account.lists.find(int(text))
    if found is None:
        raise v2_refusal(404, "ERROR_ADDRESSBOOK_NOT_FOUND")
    return found


def post_list(call: Call) -> httpx.Response:
    """`POST /v2/address-books`."""
    name, visibility = _body(call)
    if len(call.account.lists) >= call.account.options.list_limit:
        raise v2_refusal(400, "ERROR_ADDRESSBOOK_LIMITEXCEEDED")
    _check_free(call, name, None)
    created = call.account.lists.create(name, visibility)
    return reply(call.account.options.list_created_status, created.shown())


def put_list(call: Call) -> httpx.Response:
    """`PUT /v2/address-books/{id}`."""
    found = _writable(call)
    name, visibility = _body(call)
    _check_free(call, name, found)
    found.name, found.visibility = name, visibility
    return reply(200, found.shown())


def delete_list(call: Call) -> httpx.Response:
    """`DELETE /v2/address-books/{id}`."""
    call.account.lists.remove(_writable(call).id)
    return httpx.Response(204)


def _writable(call: Call) -> ContactList:
    found = _find(call)
    if found.name == _TEST:
        raise v2_refusal(400, "ERROR_ADDRESSBOOK_NOTWRITABLE")
    return found


def _body(call: Call) -> tuple[str, str]:
    invalid: RefusedCall = v2_refusal(400, "ERROR_ADDRESSBOOK_INVALID")
    try:
        body = msgspec.json.decode(call.body)
    except msgspec.DecodeError as error:
        raise invalid from error
    given = {key.lower(): value for key, value in body.items()} if isinstance(body, dict) else {}
    name = given.get("name")
    visibility = _VISIBILITIES.get(str(given.get("visibility") or "private").lower())
    unknown = given.keys() - {"id", "name", "visibility", "contacts"}
    if (
        not isinstance(name, str)
        or not name.strip()
        or len(name) > _MAX_NAME
        or visibility is None
        or unknown
    ):
        raise invalid
    return name, visibility


def _check_free(call: Call, name: str, mine: ContactList | None) -> None:
    other = call.account.lists.named(name)
    segments = {segment.lower() for segment in call.account.options.segments}
    if (other is not None and other is not mine) or name.lower() in segments | _RESERVED:
        raise v2_refusal(400, "ERROR_ADDRESSBOOK_DUPLICATE")
