"""What must exist in the account before anything is delivered: data fields, the list, the collections."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from estarsync_core.dotdigital.fields import CREATED_FIELDS, DATA_FIELDS
from estarsync_core.dotdigital.outcomes import NO_ANSWER
from estarsync_core.errors import ConfigurationError
from estarsync_runtime.dotdigital.client import Answer, DotdigitalClient, Operation, path_value
from estarsync_runtime.dotdigital.connect import DotdigitalSettings, access_problem

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Account:
    """The account's own names and ids for what we use."""

    list_id: int
    orders_collection: str
    catalog_collection: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is there and what is missing."""

    missing_fields: tuple[str, ...]
    list_id: int | None
    orders_collection: str | None
    catalog_collection: str | None

    def steps(self, settings: DotdigitalSettings) -> list[str]:
        """What `provision` would create, a line each."""
        steps = [f"create the data field {name} ({DATA_FIELDS[name]})" for name in self.missing_fields]
        if self.list_id is None:
            steps.append(f"create the list {settings.dotdigital_list!r}")
        if self.orders_collection is None:
            steps.append(f"create the orders collection {settings.dotdigital_orders_collection!r}")
        if self.catalog_collection is None:
            steps.append(f"create the catalogue collection {settings.dotdigital_catalog_collection!r}")
        return steps


def inspect(client: DotdigitalClient, settings: DotdigitalSettings) -> Plan:
    """Look at the account without changing it; blocks for a few calls.

    Raises:
        ConfigurationError: with every problem found, each in words that say who can mend it.
    """
    problems: list[str] = []
    fields = _get(client, "data_fields", "/v2/data-fields", problems)
    lists = list(_lists(client, problems))
    collections = _get(client, "collections", "/insightData/v3/collections", problems)
    present = {str(row.get("name", "")).upper(): str(row.get("type", "")) for row in fields}
    for name, wanted in DATA_FIELDS.items():
        actual = present.get(name)
        if actual is not None and actual.lower() != wanted.lower():
            problems.append(
                f"the data field {name} is of type {actual} and must be {wanted}: ask the account's owner to"
                " rename or delete it"
            )
    orders = _collection(collections, settings.dotdigital_orders_collection, "orders", "contact", problems)
    catalog = _collection(collections, settings.dotdigital_catalog_collection, "catalog", "account", problems)
    if problems:
        raise ConfigurationError(problems)
    return Plan(
        missing_fields=tuple(name for name in CREATED_FIELDS if name not in present),
        list_id=_find_list(lists, settings.dotdigital_list),
        orders_collection=orders,
        catalog_collection=catalog,
    )


def existing(client: DotdigitalClient, settings: DotdigitalSettings) -> Account:
    """The account as it is, without creating anything; blocks for a few calls.

    Raises:
        ConfigurationError: something is missing or wrong.
    """
    plan = inspect(client, settings)
    if plan.list_id is None or plan.orders_collection is None or plan.catalog_collection is None:
        missing = [step.removeprefix("create ") for step in plan.steps(settings)]
        raise ConfigurationError([f"not there yet: {what}: run `estarsync provision`" for what in missing])
    return Account(plan.list_id, plan.orders_collection, plan.catalog_collection)


def provision(client: DotdigitalClient, settings: DotdigitalSettings) -> Account:
    """Create what is missing; running it again, or beside another, changes nothing more. Blocks.

    Raises:
        ConfigurationError: with every problem found.
    """
    plan = inspect(client, settings)
    problems: list[str] = []
    for name in plan.missing_fields:
        body = {"name": name, "type": DATA_FIELDS[name], "visibility": "Private"}
        answer = client.call_when_allowed("create_data_field", "POST", "/v2/data-fields", json=body)
        # Another process may have been faster.
        if answer.code != "ERROR_NON_UNIQUE_DATAFIELD":
            _expect(client, answer, f"create the data field {name}", problems)
    list_id = plan.list_id
    if list_id is None:
        list_id = _create_list(client, settings.dotdigital_list, problems)
    for found, name, scope, kind in (
        (plan.orders_collection, settings.dotdigital_orders_collection, "contact", "orders"),
        (plan.catalog_collection, settings.dotdigital_catalog_collection, "account", "catalog"),
    ):
        if found is None:
            answer = client.call_when_allowed(
                "create_collection",
                "POST",
                f"/insightData/v3/collections/{path_value(name)}",
                params={"collectionScope": scope, "collectionType": kind},
            )
            _expect(client, answer, f"create the collection {name}", problems)
    if problems or list_id is None:
        raise ConfigurationError(problems)
    return Account(
        list_id,
        plan.orders_collection or settings.dotdigital_orders_collection,
        plan.catalog_collection or settings.dotdigital_catalog_collection,
    )


def _create_list(client: DotdigitalClient, name: str, problems: list[str]) -> int | None:
    body = {"name": name, "visibility": "Private"}
    answer = client.call_when_allowed("create_list", "POST", "/v2/address-books", json=body)
    if answer.code != "ERROR_ADDRESSBOOK_DUPLICATE":
        what = f"create the list {name!r}"
        if not _expect(client, answer, what, problems):
            return None
        list_id = _list_id(answer.body)
        if list_id is None:
            problems.append(f"could not {what}: Dotdigital's answer has no id; ask its support")
        return list_id
    # Either another process was faster, or a segment has the name: both share one set of names.
    list_id = _find_list(list(_lists(client, problems)), name)
    if list_id is None:
        problems.append(
            f"the name {name!r} is taken by a segment or reserved: choose another with DOTDIGITAL_LIST, or ask"
            " the account's owner to rename the segment"
        )
    return list_id


def _lists(client: DotdigitalClient, problems: list[str]) -> Iterator[dict[str, Any]]:
    skip = 0
    while True:
        rows = _get(client, "lists", "/v2/address-books", problems, {"select": _PAGE, "skip": skip})
        yield from rows
        if not rows:
            return
        skip += len(rows)


def _find_list(rows: list[dict[str, Any]], name: str) -> int | None:
    named = (row for row in rows if str(row.get("name", "")).lower() == name.lower())
    return next((_list_id(row) for row in named), None)


def _list_id(row: Any) -> int | None:  # noqa: ANN401 - any JSON
    found = row.get("id") if isinstance(row, dict) else None
    return found if isinstance(found, int) else None


def _collection(
    rows: list[dict[str, Any]], name: str, kind: str, scope: str, problems: list[str]
) -> str | None:
    found = [row for row in rows if str(row.get("collectionName", "")).lower() == name.lower()]
    if not found:
        return None
    names = ", ".join(sorted(str(row["collectionName"]) for row in found))
    if len(found) > 1:
        problems.append(
            f"there are several collections that differ only in case ({names}): delete all but one"
        )
        return None
    actual_kind, actual_scope = (
        str(found[0].get("collectionType", "")),
        str(found[0].get("collectionScope", scope)),
    )
    if actual_kind.lower() != kind.lower() or actual_scope.lower() != scope:
        problems.append(
            f"the collection {names} is of type {actual_kind} with scope {actual_scope} and must be {kind} with"
            f" scope {scope}: ask the account's owner to delete it, or choose another name in the settings"
        )
    return names


def _get(
    client: DotdigitalClient,
    operation: Operation,
    path: str,
    problems: list[str],
    params: dict[str, int] | None = None,
) -> list[dict[str, Any]]:
    answer = client.call_when_allowed(operation, "GET", path, params=params)
    if not _expect(client, answer, f"read {path}", problems):
        return []
    if not isinstance(answer.body, list):
        problems.append(f"{client.address}{path} answers, but not as Dotdigital does: check the address")
        return []
    return [row for row in answer.body if isinstance(row, dict)]


def _expect(client: DotdigitalClient, answer: Answer, what: str, problems: list[str]) -> bool:
    if httpx.codes.is_success(answer.status):
        return True
    if answer.status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, NO_ANSWER}:
        problem = access_problem(answer, client.address)
        if problem and problem not in problems:
            problems.append(problem)
    else:
        said = f"{answer.status} {answer.code}".rstrip()
        problems.append(f"could not {what}: Dotdigital answers {said}; {_remedy(answer)}")
    return False


def _remedy(answer: Answer) -> str:
    if answer.code == "ERROR_DATAFIELD_LIMITEXCEEDED":
        return "ask the account's owner to delete data fields that nobody needs"
    if answer.status == httpx.codes.PRECONDITION_FAILED:
        return "ask the account's owner to delete collections that nobody needs"
    if answer.code == "ERROR_FEATURENOTACTIVE":
        return "ask Dotdigital to switch Insight data on for the account"
    return "try again later, or ask Dotdigital's support"
