"""A sandbox to try things on in one process: a clock that stands still, a client, and short ways to common calls."""

import random
from types import TracebackType
from typing import Any, Self

import httpx

from estarsync_runtime.testing import FakeClock
from sandbox.dotdigital.handler import DotdigitalSandbox
from sandbox.dotdigital.options import Options

Json = dict[str, Any]
BASE_URL = "http://dotdigital.sandbox"
_LONG = 3600.0


class Trial:
    """A sandbox and a client of it; close it, or use it in a `with`.

    Args:
        seed: of the sandbox.
        options: fields of `Options`.
    """

    def __init__(self, seed: int = 1, **options: Any) -> None:  # noqa: ANN401 - pydantic checks them
        given = Options(**options)
        self.clock = FakeClock()
        self.sandbox = DotdigitalSandbox(given, self.clock, random.Random(seed))
        self.http = httpx.Client(
            base_url=BASE_URL,
            transport=httpx.MockTransport(self.sandbox.handle),
            auth=(given.username, given.password),
        )

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client and the ledger's file."""
        self.http.close()
        self.sandbox.close()

    def control(self, call: str, **body: Any) -> Any:  # noqa: ANN401 - any JSON
        """One of the sandbox's own calls: `control("GET summary")`, `control("POST options", double_opt_in=True)`."""
        method, _, path = call.partition(" ")
        response = self.http.request(method, f"/sandbox/{path}", json=body or None)
        response.raise_for_status()
        return response.json()

    def ledger(self, kind: str) -> list[Json]:
        """The ledger's lines: `calls`, `writes` or `violations`."""
        response = self.http.get("/sandbox/ledger", params={"kind": kind})
        return [httpx.Response(200, text=line).json() for line in response.text.splitlines()]

    def new_list(self, name: str = "eStar Contacts") -> int:
        """Create a list; its id."""
        return int(self.http.post("/v2/address-books", json={"name": name}).raise_for_status().json()["id"])

    def new_field(self, name: str, kind: str = "String") -> None:
        """Create a data field."""
        self.http.post("/v2/data-fields", json={"name": name, "type": kind}).raise_for_status()

    def put_contacts(self, *entries: Json, **body: Any) -> httpx.Response:  # noqa: ANN401 - any JSON
        """`PUT /contacts/v3/import`."""
        return self.http.put("/contacts/v3/import", json={"contacts": entries, **body})

    def put_records(
        self, *records: Json, name: str = "orders", scope: str = "contact", kind: str = "orders"
    ) -> httpx.Response:
        """`PUT /insightData/v3/import`."""
        body = {
            "collectionName": name,
            "collectionScope": scope,
            "collectionType": kind,
            "records": records,
        }
        return self.http.put("/insightData/v3/import", json=body)

    def report(self, accepted: httpx.Response) -> Json:
        """The report of an import that was accepted, an hour later."""
        accepted.raise_for_status()
        self.clock.advance(_LONG)
        path = f"{accepted.request.url.path}/{accepted.json()['importId']}"
        report: Json = self.http.get(path).raise_for_status().json()
        return report

    def contact(self, email: str) -> Json:
        """`GET /contacts/v3/email/{email}`."""
        found: Json = self.http.get(f"/contacts/v3/email/{email}").raise_for_status().json()
        return found


def by_email(email: str, **more: Any) -> Json:  # noqa: ANN401 - any JSON
    """An entry of a contact import that is matched by its e-mail; `more` are data fields."""
    entry: Json = {"matchIdentifier": "email", "identifiers": {"email": email}}
    return {**entry, "dataFields": more} if more else entry


def owned(key: str, email: str, **json: Any) -> Json:  # noqa: ANN401 - any JSON
    """A record of a contact's collection."""
    return {"key": key, "contactIdentity": {"identifier": "email", "value": email}, "json": json}
