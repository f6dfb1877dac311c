"""Reading back what the account holds, page by page, within the quota."""

from collections.abc import Iterator
from typing import Any

from estarsync_core.dotdigital.fields import DATA_FIELDS
from estarsync_core.errors import RetryLater, Stop
from estarsync_runtime.dotdigital.client import DotdigitalClient, Operation, path_value

_CONTACTS_PAGE = 5000
_RECORDS_PAGE = 1000
_TRIES = 5

Json = dict[str, Any]


def read_contacts(client: DotdigitalClient, list_id: int) -> Iterator[tuple[str, Json]]:
    """E-mail (lower case) and data fields of every contact on the list. Blocks for a call a page.

    Raises:
        RetryLater: Dotdigital keeps failing.
        Stop: it refuses.
    """
    query = {"~listId": list_id, "data-fields": "|".join(DATA_FIELDS), "limit": _CONTACTS_PAGE}
    for item in _pages(client, "contacts", "/contacts/v3", query):
        email = str((item.get("identifiers") or {}).get("email") or "").lower()
        yield email, item.get("dataFields") or {}


def read_records(client: DotdigitalClient, scope: str, collection: str) -> Iterator[tuple[str, Json]]:
    """Record key and document of every record of a collection. Blocks for a call a page.

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


def _pages(client: DotdigitalClient, operation: Operation, path: str, query: Json) -> Iterator[Json]:
    marker: str | None = None
    while True:
        page = _page(client, operation, path, query if marker is None else {**query, "marker": marker})
        yield from page.get("_items") or []
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
        if answer.status in range(200, 300) and isinstance(answer.body, dict):
            return answer.body
        transient = answer.status in {0, 429} or answer.status in range(500, 600)
        text = f"could not read {path}: Dotdigital answers {answer.status} {answer.code}".rstrip()
        if not transient:
            raise Stop(text)
        if tries == _TRIES:
            raise RetryLater(text)
        client.pause(2.0**tries)
