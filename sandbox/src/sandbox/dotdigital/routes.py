"""Which call a method and a path are, what carries it out, and which tier it counts in.

The tiers are known in prose only: low for imports and for what returns much, medium for single writes, high for
light reads and for polling. `Options.tiers` overrules them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

import httpx

from sandbox.dotdigital import (
    account_calls,
    contact_calls,
    contact_imports,
    fields,
    insight_calls,
    insight_imports,
    lists,
)
from sandbox.dotdigital.call import Call
from sandbox.dotdigital.options import Tier

_CONTACT = "/contacts/v3/{identifier}/{value}"
_INSIGHT = "/insightData/v3"
_OWNED = "/insightData/v3/contacts/{identifier}/{value}"


@dataclass(frozen=True, slots=True)
class Route:
    """One call."""

    method: str
    template: str
    tier: Tier
    answer: Callable[[Call], httpx.Response]

    @property
    def name(self) -> str:
        """As `Options.tiers` and the ledger's summary name it."""
        return f"{self.method} {self.template}"


# A literal part comes before a placeholder in its place: the first route that fits is taken.
ROUTES = (
    Route("GET", "/v2/account-info", "high", account_calls.get_account_info),
    Route("GET", "/v2/server-time", "high", account_calls.get_server_time),
    Route("POST", "/v2/accounts/empty-recycle-bin", "medium", account_calls.empty_recycle_bin),
    Route("GET", "/v2/data-fields", "medium", fields.get_data_fields),
    Route("POST", "/v2/data-fields", "medium", fields.post_data_field),
    Route("DELETE", "/v2/data-fields/{name}", "medium", fields.delete_data_field),
    Route("GET", "/v2/address-books", "medium", lists.get_lists),
    Route("POST", "/v2/address-books", "medium", lists.post_list),
    Route("GET", "/v2/address-books/public", "medium", lists.get_lists),
    Route("GET", "/v2/address-books/private", "medium", lists.get_lists),
    Route("GET", "/v2/address-books/{id}", "high", lists.get_list),
    Route("PUT", "/v2/address-books/{id}", "medium", lists.put_list),
    Route("DELETE", "/v2/address-books/{id}", "medium", lists.delete_list),
    Route("GET", "/contacts/v3", "low", contact_calls.get_contacts),
    Route("POST", "/contacts/v3", "medium", contact_calls.post_contact),
    Route("PUT", "/contacts/v3/import", "low", contact_imports.put_import),
    Route("GET", "/contacts/v3/import/{importId}", "high", contact_imports.get_import),
    Route("POST", "/contacts/v3/delete", "low", contact_imports.post_delete),
    Route("GET", "/contacts/v3/delete/{deleteId}", "high", contact_imports.get_delete),
    Route("GET", _CONTACT, "high", contact_calls.get_contact),
    Route("PATCH", _CONTACT, "medium", contact_calls.patch_contact),
    Route("PUT", _CONTACT, "medium", contact_calls.put_contact),
    Route("DELETE", _CONTACT, "medium", contact_calls.delete_contact),
    Route("PUT", f"{_INSIGHT}/import", "low", insight_imports.put_import),
    Route("GET", f"{_INSIGHT}/import/{{importId}}", "high", insight_imports.get_import),
    Route("GET", f"{_INSIGHT}/async/{{jobId}}", "high", insight_imports.get_async),
    Route("GET", f"{_INSIGHT}/collections", "medium", insight_calls.get_collections),
    Route("POST", f"{_INSIGHT}/collections/{{collectionName}}", "medium", insight_calls.post_collection),
    Route("DELETE", f"{_INSIGHT}/collections/{{collectionName}}", "medium", insight_calls.delete_collection),
    Route(
        "DELETE", f"{_INSIGHT}/collections/{{collectionName}}/empty", "medium", insight_calls.empty_collection
    ),
    Route("GET", f"{_INSIGHT}/collections/{{collectionName}}/schema", "medium", insight_calls.get_schema),
    Route("GET", f"{_INSIGHT}/account", "medium", insight_calls.get_account_collections),
    Route("GET", f"{_INSIGHT}/account/{{collectionName}}", "low", insight_calls.get_records),
    Route("GET", f"{_INSIGHT}/account/{{collectionName}}/{{recordId}}", "high", insight_calls.get_record),
    Route("PUT", f"{_INSIGHT}/account/{{collectionName}}/{{recordId}}", "medium", insight_calls.put_record),
    Route(
        "DELETE", f"{_INSIGHT}/account/{{collectionName}}/{{recordId}}", "medium", insight_calls.delete_one
    ),
    Route(
        "DELETE", f"{_INSIGHT}/accounts/{{collectionName}}/deleteRecords", "low", insight_calls.delete_records
    ),
    Route("GET", f"{_INSIGHT}/contacts/{{collectionName}}", "low", insight_calls.get_records),
    Route("GET", _OWNED, "medium", insight_calls.get_contact_collections),
    Route("GET", f"{_OWNED}/{{collectionName}}", "low", insight_calls.get_records),
    Route("DELETE", f"{_OWNED}/{{collectionName}}/deleteRecords", "low", insight_calls.delete_records),
    Route("DELETE", f"{_OWNED}/{{collectionName}}/empty", "medium", insight_calls.empty_collection),
    Route("GET", f"{_OWNED}/{{collectionName}}/{{recordId}}", "high", insight_calls.get_record),
    Route("PUT", f"{_OWNED}/{{collectionName}}/{{recordId}}", "medium", insight_calls.put_record),
    Route("DELETE", f"{_OWNED}/{{collectionName}}/{{recordId}}", "medium", insight_calls.delete_one),
)
_PARTS = tuple((route, route.template.split("/")[1:]) for route in ROUTES)


def find_route(method: str, raw_path: bytes) -> tuple[Route | None, dict[str, str], bool]:
    """The route of a call, its decoded path values, and whether the path is known with another method.

    Args:
        method: HTTP method.
        raw_path: as on the wire: percent-encoded, a query may follow.
    """
    parts = raw_path.partition(b"?")[0].decode("ascii").strip("/").split("/")
    known = False
    for route, pattern in _PARTS:
        if len(pattern) != len(parts):
            continue
        params: dict[str, str] = {}
        for wanted, given in zip(pattern, parts, strict=True):
            if wanted.startswith("{"):
                params[wanted[1:-1]] = unquote(given)
            elif wanted != given:
                break
        else:
            if route.method == method:
                return route, params, True
            known = True
    return None, {}, known
