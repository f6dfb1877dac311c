"""Finding the account and making it ready, against the sandbox Dotdigital."""

import random
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from estarsync_core.dotdigital.fields import CREATED_FIELDS
from estarsync_core.errors import ConfigurationError
from estarsync_runtime.dotdigital.client import DotdigitalClient
from estarsync_runtime.dotdigital.connect import DotdigitalSettings, connect
from estarsync_runtime.dotdigital.provisioning import existing, inspect, provision
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.testing import FakeClock
from sandbox.dotdigital.faults import Fault, FaultRequest
from sandbox.dotdigital.handler import DotdigitalSandbox
from sandbox.dotdigital.options import Limits, Options

CLOCK = FakeClock()


def sandbox(**options: Any) -> DotdigitalSandbox:
    return DotdigitalSandbox(Options(**options), CLOCK, random.Random(1))  # noqa: S311 - repeatable on purpose


def settings(**more: Any) -> DotdigitalSettings:
    made = {
        "dotdigital_username": Options().username,
        "dotdigital_password": Options().password,
        "dotdigital_url": "https://r1-api.dotdigital.com",
    }
    return DotdigitalSettings(**{**made, **more})


def client(
    handler: Callable[[httpx.Request], httpx.Response], given: DotdigitalSettings | None = None
) -> DotdigitalClient:
    return connect(given or settings(), CLOCK, Metrics(CollectorRegistry()), httpx.MockTransport(handler))


def problems(call: Callable[[], object]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        call()
    return list(caught.value.problems)


def test_the_region_is_found_and_used():
    box = sandbox(api_endpoint="https://r3-api.dotdigital.com/")
    hosts: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        return box.handle(request)

    account = provision(client(handler), settings())
    assert account.list_id > 1
    assert hosts[0] == "r1-api.dotdigital.com"
    assert set(hosts[1:]) == {"r3-api.dotdigital.com"}


def test_a_given_endpoint_skips_discovery():
    box = sandbox()
    found = client(box.handle, settings(dotdigital_endpoint="https://r2-api.dotdigital.com/"))
    provision(found, settings())
    assert found.address == "https://r2-api.dotdigital.com"
    assert "GET /v2/account-info" not in box.account.ledger.by_call


@pytest.mark.parametrize(
    "endpoint", ["https://evil.example", "http://r1-api.dotdigital.com.evil.example/", "x", ""]
)
def test_credentials_go_to_no_other_host(endpoint):
    box = sandbox(api_endpoint=endpoint or None)

    def handler(request: httpx.Request) -> httpx.Response:
        answer = box.handle(request)
        return httpx.Response(200, json={"properties": []}) if not endpoint else answer

    (problem,) = problems(lambda: client(handler))
    assert "check DOTDIGITAL_URL" in problem
    assert sum(box.account.ledger.by_status.values()) == 1


def test_an_unencrypted_endpoint_is_refused_unless_we_began_there():
    box = sandbox(api_endpoint="http://r3-api.dotdigital.com")
    assert problems(lambda: client(box.handle))
    begun = settings(dotdigital_url="http://127.0.0.1:9")
    local = sandbox(api_endpoint="http://127.0.0.1:10/")
    assert client(local.handle, begun).address == "http://127.0.0.1:10"


@pytest.mark.parametrize("endpoint", [None, "https://r3-api.dotdigital.com"])
def test_wrong_credentials_are_said_once_and_without_the_password(endpoint):
    given = settings(dotdigital_password="wrong-one", dotdigital_endpoint=endpoint)
    found = problems(lambda: provision(client(sandbox().handle, given), given))
    assert len(found) == 1
    assert "DOTDIGITAL_USERNAME and DOTDIGITAL_PASSWORD" in found[0]
    assert "wrong-one" not in found[0]


def test_the_wrong_region_is_said():
    host = "r2-api.dotdigital.com"
    given = settings(dotdigital_endpoint=f"https://{host}")
    found = problems(lambda: provision(client(sandbox(wrong_hosts={host}).handle, given), given))
    assert len(found) == 1
    assert "wrong region" in found[0]


def test_an_unreachable_address_is_said_at_once():
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    begun = CLOCK.monotonic()
    (problem,) = problems(lambda: client(handler))
    assert "does not answer at https://r1-api.dotdigital.com (ConnectError)" in problem
    assert CLOCK.monotonic() == begun


def test_an_address_that_is_not_dotdigitals_is_said():
    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="<html>welcome</html>")

    (problem,) = problems(lambda: client(handler))
    assert "not as Dotdigital's account-info does" in problem
    given = settings(dotdigital_endpoint="https://shop.example")
    found = problems(lambda: inspect(client(handler, given), given))
    assert len(found) == 3
    assert all("https://shop.example/" in problem for problem in found)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("dotdigital_url", "r1-api.dotdigital.com", "not a URL"),
        ("dotdigital_url", "ftp://r1-api.dotdigital.com", "not a URL"),
        ("dotdigital_endpoint", "http://[::1", "not a URL"),
        ("dotdigital_list", "Test", "choose another name"),
        ("dotdigital_list", "x" * 129, "at most 128"),
        ("dotdigital_orders_collection", "1orders", "pattern"),
        ("dotdigital_catalog_collection", "products", "catalog_"),
        ("dotdigital_quota_share", 0, "greater than 0"),
    ],
)
def test_wrong_settings_are_refused(name, value, complaint):
    with pytest.raises(ValueError, match=complaint):
        settings(**{name: value})


def test_everything_missing_is_created_and_twice_changes_nothing():
    box = sandbox()
    found = client(box.handle)
    assert len(inspect(found, settings()).steps(settings())) == len(CREATED_FIELDS) + 3
    assert problems(lambda: existing(found, settings()))
    account = provision(found, settings())
    created = {each.name: str(each.type) for each in box.account.fields if each.name in CREATED_FIELDS}
    assert created == {name: str(kind) for name, kind in CREATED_FIELDS.items()}
    the_list = box.account.lists.named("eStar Contacts")
    assert the_list is not None
    assert account.list_id == the_list.id
    orders, catalogue = box.account.collection("orders"), box.account.collection("catalog_estar")
    assert orders is not None
    assert catalogue is not None
    assert (orders.scope, orders.kind) == ("contact", "orders")
    assert (catalogue.scope, catalogue.kind) == ("account", "catalog")
    writes = {name: count for name, count in box.account.ledger.by_call.items() if not name.startswith("GET")}
    assert provision(found, settings()) == existing(found, settings()) == account
    assert inspect(found, settings()).steps(settings()) == []
    assert writes == {
        name: count for name, count in box.account.ledger.by_call.items() if not name.startswith("GET")
    }


def test_what_is_there_in_another_case_is_used_as_it_is():
    box = sandbox()
    found = client(box.handle)
    for path, query in (
        ("Orders", {"collectionScope": "contact", "collectionType": "orders"}),
        ("Catalog_eStar", {"collectionScope": "account", "collectionType": "catalog"}),
    ):
        found.call_when_allowed(
            "create_collection", "POST", f"/insightData/v3/collections/{path}", params=query
        )
    found.call_when_allowed("create_list", "POST", "/v2/address-books", json={"name": "ESTAR contacts"})
    found.call_when_allowed(
        "create_data_field", "POST", "/v2/data-fields", json={"name": "dob", "type": "Date"}
    )
    account = provision(found, settings())
    assert (account.orders_collection, account.catalog_collection) == ("Orders", "Catalog_eStar")
    assert sorted(box.account.collections) == ["Catalog_eStar", "Orders"]
    assert len(box.account.lists) == 2
    assert sum(each.name.upper() == "DOB" for each in box.account.fields) == 1


def test_every_problem_is_reported_together_and_nothing_is_created():
    box = sandbox()
    found = client(box.handle)
    for name, kind in (("DOB", "String"), ("CUSTOMER_ACTIVE", "String")):
        found.call_when_allowed(
            "create_data_field", "POST", "/v2/data-fields", json={"name": name, "type": kind}
        )
    for name, scope, kind in (
        ("Orders", "account", "custom"),
        ("catalog_estar", "account", "catalog"),
        ("CATALOG_ESTAR", "account", "catalog"),
    ):
        query = {"collectionScope": scope, "collectionType": kind}
        path = f"/insightData/v3/collections/{name}"
        found.call_when_allowed("create_collection", "POST", path, params=query)
    before = sum(box.account.ledger.by_call.values())
    reported = problems(lambda: provision(found, settings()))
    assert len(reported) == 4
    assert "DOB is of type String and must be Date" in " ".join(reported)
    assert "CUSTOMER_ACTIVE is of type String and must be Boolean" in " ".join(reported)
    assert "Orders is of type custom with scope account" in " ".join(reported)
    assert "CATALOG_ESTAR, catalog_estar" in " ".join(reported)
    assert all(line.method == "GET" for line in list(box.account.ledger.calls)[before:])


def test_a_list_name_that_a_segment_has_is_said():
    box = sandbox(segments=("estar contacts",))
    (problem,) = problems(lambda: provision(client(box.handle), settings()))
    assert "'eStar Contacts' is taken by a segment" in problem
    assert "DOTDIGITAL_LIST" in problem


def test_an_account_that_is_full_is_said_together():
    box = sandbox(data_field_limit=8, list_limit=1, collection_limit=0)
    reported = problems(lambda: provision(client(box.handle), settings()))
    assert any("create the list" in problem for problem in reported)
    assert sum("delete data fields that nobody needs" in problem for problem in reported) > 5
    assert sum("delete collections that nobody needs" in problem for problem in reported) == 2


def test_another_process_may_be_faster():
    box = sandbox()
    other = client(box.handle)

    def raced(request: httpx.Request) -> httpx.Response:
        # Whatever is to be created was created just before.
        if request.method == "POST":
            box.handle(httpx.Request("POST", request.url, headers=request.headers, content=request.content))
        return box.handle(request)

    account = provision(client(raced), settings())
    assert account == existing(other, settings())
    assert len(box.account.lists) == 2


def test_more_lists_than_a_page_holds_are_read():
    box = sandbox()
    for number in range(1100):
        box.account.lists.create(f"list {number}", "Private")
    wanted = box.account.lists.create("eStar Contacts", "Private")
    assert provision(client(box.handle), settings()).list_id == wanted.id


def test_short_outages_and_a_used_up_quota_are_waited_out():
    box = sandbox(limits=Limits(low=35, medium=5, high=2))
    kinds = ("http_503", "http_500", "drop_before", "drop_after")
    box.account.faults.ask(
        FaultRequest(once=tuple(Fault(kind=kind, path="/v2/data-fields") for kind in kinds))
    )
    account = provision(client(box.handle), settings(dotdigital_quota_share=1))
    assert account.list_id > 1
    assert box.account.ledger.by_status["429"] == 0


def test_a_lasting_outage_is_said():
    box = sandbox()
    box.account.faults.ask(FaultRequest(probabilities={"http_503": 1.0}))
    (problem,) = problems(lambda: client(box.handle))
    assert "Dotdigital answers 503" in problem
