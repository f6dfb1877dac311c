"""Reading back what the account holds, page by page, within the quota."""

from collections.abc import Iterator
from queue import Queue
from threading import Thread
from typing import Any, TypeVar

from estarsync_core.dotdigital.fields import DATA_FIELDS
from estarsync_core.errors import RetryLater, Stop
from estarsync_runtime.dotdigital.client import Answer, DotdigitalClient, Operation, path_value

_CONTACTS_PAGE = 5000
_RECORDS_PAGE = 1000
_TRIES = 5
_NOT_FOUND = 404

Json = dict[str, Any]
T = TypeVar("T")


def read_contacts(client: DotdigitalClient, list_id: int) -> Iterator[tuple[str, Json]]:
    """E-mail (lower case) and data fields of every contact on the list. Blocks for a call a page.

    One more page is fetched, by a thread, while the last one is looked at.

    Raises:
        RetryLater: Dotdigital keeps failing.
        Stop: it refuses.
    """
    query = {"~listId": list_id, "data-fields": "|".join(DATA_FIELDS), "limit": _CONTACTS_PAGE}
    for item in _pages(client, "contacts", "/contacts/v3", query):
        email = str((item.get("identifiers") or {}).get("email") or "").lower()
        yield email, item.get("dataFields") or {}


def read_records(client: DotdigitalClient, scope: str, collection: str) -> Iterator[tuple[str, Json]]:
    """Record key and document of every record of a collection. Blocks for a call a page, as `read_contacts`.

    Args:
        client: Dotdigital.
        scope: `account` or `contacts`, as the path says it.
        collection: the collection's name.

    Raises:
        RetryLater: Dotdigital keeps failing.
        Stop: it refuses.
    """
    path = f"/insightData/v3/{scope}/{path_value(collection)}"
    for item in _pages(client, "insight_records", path, {"limit": _RECORDS_PAGE}):
        yield str(item.get("key")), item.get("json") or {}


def read_contact(client: DotdigitalClient, email: str) -> Json | None:
    """The data fields of one contact; None where there is none. Blocks for a call, of a tier of its own.

    Raises:
        RetryLater: Dotdigital keeps failing.
        Stop: it refuses.
    """
    found = _one(client, "contact", f"/contacts/v3/email/{path_value(email)}", "/contacts/v3/email/…")
    return None if found is None else found.get("dataFields") or {}


def read_record(client: DotdigitalClient, collection: str, key: str, email: str | None = None) -> Json | None:
    """One record of a collection; None where there is none. Blocks for a call, of a tier of its own.

    Args:
        client: Dotdigital.
        collection: the collection's name.
        key: the record's key there.
        email: whose it is; None for a collection of the account's own.

    Raises:
        RetryLater: Dotdigital keeps failing.
        Stop: it refuses.
    """
    scope = "account" if email is None else f"contacts/email/{path_value(email)}"
    path = f"/insightData/v3/{scope}/{path_value(collection)}/{path_value(key)}"
    found = _one(client, "insight_record", path, f"a record of {collection}")
    return None if found is None else found.get("json") or {}


def _one(client: DotdigitalClient, operation: Operation, path: str, what: str) -> Json | None:
    """One thing; `what` names it in errors, since a path may hold an e-mail."""
    answer = client.call_when_allowed(operation, "GET", path)
    if answer.status == _NOT_FOUND:
        return None
    return _body(answer, what)


def _body(answer: Answer, what: str) -> Json:
    if answer.status in range(200, 300) and isinstance(answer.body, dict):
        return answer.body
    text = f"could not read {what}: Dotdigital answers {answer.status} {answer.code}".rstrip()
    if answer.status in {0, 429} or answer.status in range(500, 600):
        raise RetryLater(text)
    raise Stop(text)


def _pages(client: DotdigitalClient, operation: Operation, path: str, query: Json) -> Iterator[Json]:
    for items in _ahead(_chunks(client, operation, path, query)):
        yield from items


def _ahead(chunks: Iterator[T]) -> Iterator[T]:
    """The same, each fetched by a thread while the one before is looked at; two wait at most."""
    waiting: Queue[tuple[T | None, BaseException | None]] = Queue(1)

    def fetch() -> None:
        try:
            for chunk in chunks:
                waiting.put((chunk, None))
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            waiting.put((None, error))
        else:
            waiting.put((None, None))

    # A daemon: who stops in the middle need not wait for a call, or for the quota's minute.
    Thread(target=fetch, name="read-back", daemon=True).start()
    while True:
        chunk, error = waiting.get()
        if error is not None:
            raise error
        if chunk is None:
            return
        yield chunk


def _chunks(client: DotdigitalClient, operation: Operation, path: str, query: Json) -> Iterator[list[Json]]:
    """The items of each page."""
    marker: str | None = None
    while True:
        page = _page(client, operation, path, query if marker is None else {**query, "marker": marker})
        yield page.get("_items") or []
        # A page may be shorter than the limit: only a missing `next` says that it was the last.
        following = (page.get("_links") or {}).get("next")
        if not isinstance(following, dict) or not following.get("marker"):
            return
        if following["marker"] == marker:
            raise Stop(f"Dotdigital's pages of {path} don't come to an end: ask its support")
        marker = str(following["marker"])


def _page(client: DotdigitalClient, operation: Operation, path: str, query: Json) -> Json:
    tries = 0
    while True:
        tries += 1
        answer = client.call_when_allowed(operation, "GET", path, params=query)
        try:
            return _body(answer, path)
        except RetryLater:
            if tries == _TRIES:
                raise
        client.pause(2.0**tries)
