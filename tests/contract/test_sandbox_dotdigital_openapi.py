"""The sandbox Dotdigital's answers against Dotdigital's own OpenAPI files, which lie outside the repository."""

import json
import os
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator, FormatChecker

from sandbox.dotdigital.routes import ROUTES
from sandbox.dotdigital.trial import BASE_URL, Json, Trial, by_email, owned

SHARED = Path(os.environ.get("SHARED_DIR") or Path(__file__).parents[2].parent / "shared")
OPENAPI = SHARED / "reference" / "openapi"
FILES = (
    "contacts-v3.json",
    "insight-data-v3.json",
    "accounts-v2.yaml",
    "data-fields-v2.yaml",
    "lists-v2.yaml",
)
pytestmark = pytest.mark.skipif(
    not OPENAPI.is_dir(), reason=f"Dotdigital's OpenAPI files are not at {OPENAPI} (set SHARED_DIR)"
)

BEYOND_THE_FILES = {
    "v2": {400, 401, 403, 404, 429},  # these files declare success only; the errors are documented in prose
    "v3": {403, 405, 413, 415, 429, 500, 502, 503, 504},  # region, method, size, kind, quota, failing servers
    "PUT /insightData/v3/import": {412},  # a collection over the limit is not made by an import either
}
NO_CONTENT = 204  # one file declares a body for it, which HTTP has not
FORMATS = FormatChecker(("ipv4", "ipv6"))


def shape(template: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", template.rstrip("/"))


class Contract:
    """Every declared operation, with its answers' schemas made ready for a JSON Schema validator."""

    def __init__(self) -> None:
        self.operations: dict[tuple[str, str], dict[str, Any]] = {}
        for name in FILES:
            text = (OPENAPI / name).read_text(encoding="utf-8")
            document = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    if method != "parameters":
                        key = (method.upper(), shape(path))
                        self.operations[key] = self._responses(document, operation)

    def _responses(self, document: Json, operation: Json) -> dict[str, Any]:
        return {
            status: {
                kind: self._schema(document, content["schema"])
                for kind, content in response.get("content", {}).items()
            }
            for status, response in operation["responses"].items()
        }

    def _schema(self, document: Json, schema: Any) -> Any:
        """A schema without references, with OpenAPI 3.0's `nullable`, and with the files' slips mended."""
        if isinstance(schema, list):
            return [self._schema(document, one) for one in schema]
        if not isinstance(schema, dict):
            return schema
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            found = self._schema(document, document["components"]["schemas"][name])
            # Slip: an e-mail fits the alternative for e-mails and the one for custom identifiers.
            return {"anyOf": found["oneOf"]} if name == "contactIdentifier" and "oneOf" in found else found
        known = {
            key: self._schema(document, value)
            for key, value in schema.items()
            if key not in {"example", "examples", "description", "default", "nullable"}
        }
        if schema.get("nullable") and isinstance(known.get("type"), str):
            known["type"] = [known["type"], "null"]
        if isinstance(known.get("properties"), dict) and "schema" in known["properties"]:
            # Slip: a collection's schema is declared an object, and its example is an array.
            known["properties"]["schema"] = {"type": "array", "items": {"type": "object"}}
        return merged(known) if "allOf" in known else known


def merged(schema: Json) -> Json:
    """`allOf` as one schema. Slip: a member forbids additional properties and means all members' properties."""
    properties: Json = {}
    required: list[str] = []
    rest: Json = {}
    for part in schema["allOf"]:
        properties |= part.get("properties", {})
        required += part.get("required", [])
        rest |= {key: value for key, value in part.items() if key not in {"properties", "required"}}
    whole = {**rest, "type": "object", "required": required, "properties": properties}
    if "oneOf" in whole or not properties:
        whole.pop("type")
    return whole


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Contract()


class Checked:
    """A trial whose every answer is checked; `seen` is what came."""

    def __init__(self, contract: Contract, **options: Any) -> None:
        self.trial = Trial(**options)
        self.seen: set[tuple[str, str, int]] = set()
        self._contract = contract
        self.trial.http.close()
        self.http = httpx.Client(
            base_url=BASE_URL, transport=httpx.MockTransport(self._answer), auth=self.trial.http.auth
        )
        self.trial.http = self.http

    def _answer(self, request: httpx.Request) -> httpx.Response:
        response = self.trial.sandbox.handle(request)
        line = self.trial.sandbox.account.ledger.calls
        if not request.url.path.startswith("/sandbox/"):
            self._check(request.method, line[-1].path, response)
        return response

    def _check(self, method: str, template: str, response: httpx.Response) -> None:
        declared = self._contract.operations[method, shape(template)]
        self.seen.add((method, template, response.status_code))
        content = declared.get(str(response.status_code))
        if content is None:
            version = "v2" if template.startswith("/v2/") else "v3"
            extra = BEYOND_THE_FILES[version] | BEYOND_THE_FILES.get(f"{method} {template}", set())
            assert response.status_code in extra, (
                f"{method} {template}: {response.status_code} is not declared"
            )
            return
        if not content or response.status_code == NO_CONTENT:
            assert response.content == b"", f"{method} {template}: {response.status_code} has no body"
            return
        kind = response.headers["Content-Type"].partition(";")[0]
        schema = content[kind]
        body = response.json() if kind == "application/json" else response.text
        validator = Draft202012Validator(schema, format_checker=FORMATS)
        problems = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(body)]
        assert not problems, f"{method} {template} {response.status_code}: {problems[:5]}"


def openapi_options(**more: Any) -> Json:
    return {
        "insight_status_words": "complete",
        "failure_codes": "openapi",
        "leaked_reasons": False,
        **more,
    }


CONSENT = {
    "text": "yes",
    "dateTimeConsented": "2026-01-01T00:00:00Z",
    "url": "https://shop.example",
    "ipAddress": "192.0.2.1",
    "userAgent": "browser",
}
CATALOGUE: Json = {"name": "catalog_estar", "scope": "account", "kind": "catalog"}


def call_account(checked: Checked) -> None:
    http = checked.http
    http.get("/v2/account-info")
    http.get("/v2/server-time")
    http.get("/v2/data-fields")
    for body in ({"name": "SHOE_SIZE", "type": "Numeric", "defaultValue": 42}, {"name": "SHOE_SIZE"}):
        http.post("/v2/data-fields", json=body)
    http.post("/v2/data-fields", json={"name": "MEMBER", "type": "Boolean", "defaultValue": "yes"})
    for name in ("MEMBER", "FIRSTNAME", "UNKNOWN"):
        http.delete(f"/v2/data-fields/{name}")
    http.post("/v2/address-books", json={"name": "Test"})
    list_id = http.post("/v2/address-books", json={"name": "Shop"}).json()["id"]
    for path in ("", "/public", "/private", f"/{list_id}", "/5", "/x"):
        http.get(f"/v2/address-books{path}")
    http.put(f"/v2/address-books/{list_id}", json={"name": "Shop 2", "visibility": "Public"})
    spare = http.post("/v2/address-books", json={"name": "Spare"}).json()["id"]
    http.delete(f"/v2/address-books/{spare}")


def call_contacts(checked: Checked) -> None:
    http, trial = checked.http, checked.trial
    rich = {
        **by_email("a@shop.example", FIRSTNAME="A"),
        "channelProperties": {"email": {"emailType": "html", "status": "subscribed"}},
        "preferences": [{"id": 1, "isOptedIn": True}],
        "consentRecords": [CONSENT],
    }
    rich["identifiers"]["mobileNumber"] = "64211234567"
    accepted = trial.put_contacts(
        rich,
        by_email("b@shop.example"),
        by_email("bad@@shop.example"),
        by_email("b@shop.example"),
        {"matchIdentifier": "contactId", "identifiers": {"contactId": 99}},
        {**by_email("c@shop.example"), "consentRecords": [{**CONSENT, "ipAddress": "?"}]},
    )
    http.get(f"/contacts/v3/import/{accepted.json()['importId']}")
    trial.report(accepted)
    trial.report(trial.put_contacts(by_email("a@shop.example"), by_email("bad@@shop.example")))
    trial.put_contacts()
    http.get("/contacts/v3/import/7")
    http.get("/contacts/v3/import/d7de900d-d337-43f6-b1e1-c8ec73e1a434")
    http.get("/contacts/v3?limit=1")
    http.get("/contacts/v3?data-fields=[[ALL]]&include=channelProperties|lists|preferences|consentRecords")
    http.get("/contacts/v3?limit=0")
    new = {"identifiers": {"email": "n@shop.example"}}
    for _ in range(2):
        http.post("/contacts/v3", json=new)
    http.post("/contacts/v3", json={"identifiers": {"email": "bad"}})
    for path in ("email/a@shop.example", "email/x@shop.example", "email/bad"):
        http.get(f"/contacts/v3/{path}")
        http.patch(f"/contacts/v3/{path}", json={"dataFields": {"LASTNAME": "B"}})
        http.put(f"/contacts/v3/{path}", json={"identifiers": {"email": "a@shop.example"}})
    http.patch("/contacts/v3/email/p@shop.example", json={"identifiers": {"email": "p@shop.example"}})
    http.patch("/contacts/v3/email/p@shop.example", json=new)
    references = [{"email": "p@shop.example"}, {"email": "x@shop.example"}, {"contactId": 99}]
    deletion = http.post("/contacts/v3/delete", json=references).json()["deleteId"]
    http.get(f"/contacts/v3/delete/{deletion}")
    trial.clock.advance(60)
    for known in (deletion, "7", "d7de900d-d337-43f6-b1e1-c8ec73e1a434"):
        http.get(f"/contacts/v3/delete/{known}")
    http.post("/contacts/v3/delete", json=[])
    for path in ("email/n@shop.example", "email/n@shop.example", "email/bad"):
        http.delete(f"/contacts/v3/{path}")
    for _ in range(26):
        trial.put_contacts(by_email("b@shop.example"))
        http.post("/contacts/v3/delete", json=[{"contactId": 99}])
    trial.clock.advance(60)


def call_insight(checked: Checked) -> None:
    http, trial = checked.http, checked.trial
    root = "/insightData/v3"
    trial.report(trial.put_contacts(by_email("a@shop.example"), by_email("b@shop.example")))
    trial.report(trial.put_records({"key": "P1", "json": {"sku": "P1", "price": 5}}, **CATALOGUE))
    orders = [owned(f"O{number}", "a@shop.example", total=5) for number in range(3)]
    accepted = trial.put_records(*orders, owned("O9", "ghost@shop.example", total=5))
    for seconds in (0, 0.15, 60):
        trial.clock.advance(seconds)
        http.get(f"{root}/import/{accepted.json()['importId']}")
    trial.report(
        trial.put_records(
            owned("O1", "b@shop.example", total=5), owned("O1", "a@shop.example", **{"a-b": 1, "a_b": 2})
        )
    )
    trial.control("POST faults", once=[{"kind": "import_failed"}])
    trial.report(trial.put_records(*orders))
    trial.put_records()
    for kind in ("import", "async"):
        http.get(f"{root}/{kind}/7")
        http.get(f"{root}/{kind}/d7de900d-d337-43f6-b1e1-c8ec73e1a434")
    for query in ("collectionScope=account&collectionType=custom",) * 2 + ("collectionScope=all",):
        http.post(f"{root}/collections/spare?{query}")
    http.get(f"{root}/collections")
    http.get(f"{root}/account")
    owner = f"{root}/contacts/email/a@shop.example"
    for path in (
        f"{root}/account/catalog_estar?limit=1",
        f"{root}/account/catalog_estar/P1",
        f"{root}/contacts/orders?limit=2",
        owner,
        f"{owner}/orders",
        f"{owner}/orders/O1",
        f"{root}/collections/orders/schema",
    ):
        http.get(path)
        http.get(path.replace("orders", "missing").replace("catalog_estar", "missing"))
        http.get(path.replace("orders", "1").replace("catalog_estar", "1"))
        http.get(path.replace("a@shop", "x@shop"))
        http.get(path.replace("email", "badge"))
    for path, key in ((f"{root}/account/catalog_estar", "P1"), (f"{owner}/orders", "O1")):
        for record in (key, "NEW"):
            http.put(f"{path}/{record}", json={"sku": key} if key == "P1" else {"total": 1})
            http.delete(f"{path}/{record}")
            http.delete(f"{path}/{record}")
        http.put(f"{path}/{key}", json=[])
        http.put(f"{path.replace('orders', 'missing').replace('catalog_estar', 'missing')}/{key}", json={})
        http.delete(f"{path.replace('orders', '1').replace('catalog_estar', '1')}/{key}")
    for path in (f"{root}/accounts/catalog_estar/deleteRecords", f"{owner}/orders/deleteRecords"):
        http.request("DELETE", path, json={"keys": ["P1", "O2"]})
        http.request("DELETE", path, json={"keys": []})
        missing = path.replace("orders", "missing").replace("catalog_estar", "missing")
        http.request("DELETE", missing, json={"keys": ["P1"]})
    for path in (f"{owner}/orders/empty", f"{root}/collections/orders/empty", f"{root}/collections/orders"):
        http.delete(path.replace("orders", "1"))
        job = http.delete(path).json()["jobId"]
        http.get(f"{root}/async/{job}")
        trial.clock.advance(60)
        http.get(f"{root}/async/{job}")
        http.delete(path.replace("orders", "missing"))
    trial.control("POST options", collection_limit=0)
    http.post(f"{root}/collections/more?collectionScope=account&collectionType=custom")


def call_without_credentials(checked: Checked) -> None:
    values = {
        "identifier": "email",
        "value": "a@shop.example",
        "collectionName": "orders",
        "recordId": "O1",
        "importId": "7",
        "deleteId": "7",
        "jobId": "7",
        "name": "FIRSTNAME",
        "id": "1",
    }
    for route in ROUTES:
        response = checked.http.request(route.method, route.template.format(**values), auth=("nobody", ""))
        assert response.status_code == 401


def test_every_path_of_the_v3_files_is_served(contract: Contract) -> None:
    served = {(route.method, shape(route.template)) for route in ROUTES}
    declared = {key for key in contract.operations if not key[1].startswith("/v2/")}
    assert declared - served == set()
    assert {key for key in served if not key[1].startswith("/v2/")} - declared == set()


def test_every_answer_is_as_declared(contract: Contract) -> None:
    checked = Checked(contract, **openapi_options())
    for script in (call_account, call_contacts, call_insight, call_without_credentials):
        script(checked)
    checked.http.post("/v2/accounts/empty-recycle-bin/")
    unseen = {
        (method, template, int(status))
        for method, template in {(route.method, route.template) for route in ROUTES}
        for status in contract.operations[method, shape(template)]
    } - checked.seen
    assert unseen == set(), "declared answers that no call of this test got"


def test_the_stricter_defaults_leave_the_files_only_where_it_is_written_down(contract: Contract) -> None:
    with pytest.raises(AssertionError, match=r"'(NotFinished|Finished)' is not one of"):
        call_insight(Checked(contract, failure_codes="openapi", leaked_reasons=False))
    with pytest.raises(AssertionError, match=r"'KeyExistingForDifferentContact' is not one of"):
        call_insight(Checked(contract, insight_status_words="complete"))
    call_contacts(Checked(contract))


def test_faults_answer_within_the_list(contract: Contract) -> None:
    checked = Checked(contract, **openapi_options(limits={"low": 3}, max_body_bytes=50))
    for number in (500, 502, 503, 504):
        checked.trial.control("POST faults", once=[{"kind": f"http_{number}"}])
        assert checked.http.get("/contacts/v3/email/a@shop.example").status_code == number
    assert checked.trial.put_contacts(by_email("a@shop.example", FIRSTNAME="A" * 50)).status_code == 413
    assert checked.http.put("/contacts/v3/import", content=b"{}").status_code == 415
    statuses = [checked.http.get("/contacts/v3").status_code for _ in range(2)]
    assert statuses == [200, 429]
