"""The sandbox shop against eStar's published API, through the same function that serves a port."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import httpx
import pytest
from lxml import etree

from estarsync_runtime.testing import FakeClock
from sandbox.estar.generate import generate
from sandbox.estar.soap import Access, ShopSandbox
from sandbox.estar.state import Shop

API = "http://www.estaronline.com/api/"
ORDERS = "http://www.estaronline.com/api/orders"
TYPES = {"Customers": API, "Products": API, "Events": API, "Orders": "http://www.estaronline.com/api"}
SOAP = {"1.1": "http://schemas.xmlsoap.org/soap/envelope/", "1.2": "http://www.w3.org/2003/05/soap-envelope"}
XSI_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
ALWAYS = {"startDate": "2000-01-01T00:00:00", "endDate": "2100-01-01T00:00:00"}

Answer = tuple[httpx.Response, etree._Element]
Given = str | list[str] | list[tuple[str, str]]


class Client:
    """Just enough of a SOAP client; it knows the published names and nothing of estarsync."""

    def __init__(self, sandbox: ShopSandbox, version: str = "1.1") -> None:
        self.http = httpx.Client(transport=httpx.MockTransport(sandbox.handle), base_url="http://shop.test")
        self.version = version
        self.token = ""

    def post(self, service: str, body: str, action: str | None) -> httpx.Response:
        envelope = f'<s:Envelope xmlns:s="{SOAP[self.version]}"><s:Body>{body}</s:Body></s:Envelope>'
        if self.version == "1.1":
            headers = {"content-type": "text/xml; charset=utf-8"}
            headers |= {"soapaction": f'"{action}"'} if action else {}
        else:
            parameter = f'; action="{action}"' if action else ""
            headers = {"content-type": f"application/soap+xml; charset=utf-8{parameter}"}
        return self.http.post(f"/global/api/{service}.asmx", content=envelope, headers=headers)

    def send(self, service: str, operation: str, **given: Given) -> httpx.Response:
        namespace = ORDERS if service == "Orders" else API
        arguments = "".join(
            f"<{name}>{value if isinstance(value, str) else ''.join(map(_item, value))}</{name}>"
            for name, value in given.items()
        )
        action = namespace.rstrip("/") + "/" + operation
        return self.post(service, f'<{operation} xmlns="{namespace}">{arguments}</{operation}>', action)

    def call(self, service: str, operation: str, **given: Given) -> etree._Element:
        """The result element of a call with the token."""
        answer = self.send(service, operation, authenticationToken=self.token, **given)
        assert answer.status_code == 200, answer.text
        namespace = ORDERS if service == "Orders" else API
        path = f"{{{SOAP[self.version]}}}Body/{{{namespace}}}{operation}Response/{{{namespace}}}{operation}Result"
        result = etree.fromstring(answer.content).find(path)
        assert result is not None, answer.text
        return result

    def rows(self, service: str, operation: str, row: str, **given: Given) -> list[etree._Element]:
        result = self.call(service, operation, **given)
        data = result.find(f"{{{TYPES[service]}}}Data")
        assert data is not None, etree.tostring(result)
        return data.findall(f"{{{TYPES[service]}}}{row}")

    def ids(self, service: str, operation: str, **given: Given) -> list[int]:
        return [int(row.text or "") for row in self.rows(service, operation, "int", **given)]

    def sign_in(self, service: str = "Customers") -> None:
        result = self.call(service, "Authenticate", username="sandbox", password="sandbox")
        self.token = result.findtext(f"{{{TYPES[service]}}}Data") or ""


def _item(value: str | tuple[str, str]) -> str:
    if isinstance(value, str):
        return f"<int>{value}</int>"
    subscriber, sequence = value
    pair = f"<SubscriberID>{subscriber}</SubscriberID><Sequence>{sequence}</Sequence>"
    return f"<SubscriberSequence>{pair}</SubscriberSequence>"


def names(element: etree._Element) -> list[str]:
    return [etree.QName(child).localname for child in element]


def text(element: etree._Element, name: str) -> str | None:
    return next((child.text for child in element if etree.QName(child).localname == name), None)


def refusal(result: etree._Element) -> dict[str, str | None]:
    return {etree.QName(child).localname: child.text for child in result}


@pytest.fixture
def shop() -> Shop:
    return generate(60, 5, ZoneInfo("Europe/London"))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime(2026, 1, 2, tzinfo=UTC))


@pytest.fixture
def sandbox(shop: Shop, clock: FakeClock) -> ShopSandbox:
    return ShopSandbox(shop, clock)


@pytest.fixture(params=["1.1", "1.2"])
def client(sandbox: ShopSandbox, request: pytest.FixtureRequest) -> Client:
    client = Client(sandbox, request.param)
    client.sign_in()
    return client


@pytest.mark.parametrize("service", ["Customers", "Orders", "Products", "Events"])
def test_every_service_authenticates_with_a_token_of_at_most_50_characters(
    sandbox: ShopSandbox, service: str
) -> None:
    client = Client(sandbox)
    client.sign_in(service)
    assert 0 < len(client.token) <= 50
    assert client.ids("Customers", "ListCustomersModified", **ALWAYS)


def test_wrong_credentials_and_tokens_are_refused_with_http_200(sandbox: ShopSandbox) -> None:
    client = Client(sandbox)
    wrong = refusal(client.call("Customers", "Authenticate", username="sandbox", password="guess"))
    assert wrong["Success"] == "false"
    assert wrong["Code"] == "1"
    client.token = "guess"
    for service, operation in (("Customers", "ListCustomersModified"), ("Orders", "ListOrdersModified")):
        assert refusal(client.call(service, operation, **ALWAYS))["Success"] == "false"
        assert "Data" not in refusal(client.call(service, operation, **ALWAYS))


def test_a_token_expires_by_calls_and_by_seconds(shop: Shop, clock: FakeClock) -> None:
    client = Client(ShopSandbox(shop, clock, Access(token_calls=2, token_seconds=60)))

    def works() -> bool:
        return names(client.call("Customers", "ListCustomersModified", **ALWAYS)) == ["Data"]

    client.sign_in()
    assert [works(), works(), works()] == [True, True, False]
    client.sign_in()
    assert works()
    clock.sleep(60)
    assert not works()
    client.sign_in()
    assert works()


def test_customers_are_listed_by_a_half_open_window_and_retrieved(client: Client, shop: Shop) -> None:
    everybody = client.ids("Customers", "ListCustomersModified", **ALWAYS)
    assert sorted(everybody) == sorted(shop.customers.records)
    last = shop.customers.records[everybody[-1]].modified
    boundary = last.isoformat()
    before = client.ids("Customers", "ListCustomersModified", startDate=ALWAYS["startDate"], endDate=boundary)
    after = client.ids("Customers", "ListCustomersModified", startDate=boundary, endDate=ALWAYS["endDate"])
    assert everybody == before + after
    assert everybody[-1] in after

    wanted = everybody[:3]
    rows = client.rows(
        "Customers", "RetrieveCustomers", "Customer", customerIDs=[str(i) for i in [*wanted, 999_999]]
    )
    assert [int(text(row, "ID") or "") for row in rows] == wanted
    published = ["ID", "ForeignIdentity", "Email", "Password", "LpmStatus", "PreferencesToken", "Account"]
    assert [name for name in names(rows[0]) if name in published] == published


def test_orders_are_listed_by_creation_and_change_and_come_with_their_lines(
    client: Client, shop: Shop
) -> None:
    created = client.ids("Orders", "ListOrdersCreated", **ALWAYS)
    modified = client.ids("Orders", "ListOrdersModified", **ALWAYS)
    assert sorted(created) == sorted(modified) == sorted(shop.orders.records)
    (row,) = client.rows("Orders", "Retrieve", "Order", orderIDs=[str(created[0])])
    items = row.find(f"{{{TYPES['Orders']}}}Items")
    assert items is not None
    order = shop.orders.records[created[0]]
    assert [text(line, "Barcode") for line in items] == [line.barcode for line in order.lines]
    assert text(row, "Total") == order.body["Total"]


def test_a_split_tree_is_found_from_any_of_its_orders(client: Client, shop: Shop) -> None:
    child = next(o for o in shop.orders.records.values() if o.parent and shop.orders.records[o.parent].parent)
    tree = [order.id for order in shop.tree(child)]
    assert len(tree) == 3
    for member in tree:
        rows = client.rows("Orders", "RetrieveRelatedOrders", "Order", orderID=str(member))
        assert [int(text(row, "ID") or "") for row in rows] == tree
    assert client.rows("Orders", "RetrieveRelatedOrders", "Order", orderID="1") == []


def test_products_statuses_and_websites(client: Client, shop: Shop) -> None:
    ids = client.ids("Products", "ListProducts")
    assert ids == sorted(shop.products.records)
    rows = client.rows("Products", "RetrieveProducts", "Product", productIDs=[str(i) for i in ids])
    assert len(rows) == len(ids)
    statuses = client.rows("Orders", "ListAvailableOrderStatuses", "OrderStatus")
    assert {text(row, "Name"): text(row, "ID") for row in statuses}["Completed"] == "7"
    assert [text(row, "ID") for row in client.rows("Orders", "ListAvailableWebsites", "Website")] == ["1"]


def test_missed_events_are_fetched_by_subscriber_and_sequence(client: Client, shop: Shop) -> None:
    event = shop.events[3]
    pairs = [("1", "4"), ("2", "4"), ("1", "999999")]
    (row,) = client.rows("Events", "Retrieve", "Event", subscriberSequenceMap=pairs)
    assert (text(row, "SubscriberID"), text(row, "Sequence")) == ("1", "4")
    assert text(row, "Type") == event.type
    assert event.message["orderID"] in (text(row, "Message") or "")


def test_nil_empty_and_absent_are_three_things(client: Client, shop: Shop) -> None:
    ids = [str(i) for i in shop.customers.records]
    rows = client.rows("Customers", "RetrieveCustomers", "Customer", customerIDs=ids)
    kinds = set()
    for row in rows:
        names_seen = {etree.QName(child).localname: child for child in row}
        kinds.add("absent" if "FirstName" not in names_seen else names_seen["FirstName"].get(XSI_NIL))
        kinds.add("empty" if "FirstName" in names_seen and not names_seen["FirstName"].text else None)
    assert {"absent", "true", "empty", None} == kinds


def test_dates_may_carry_an_offset_and_without_one_are_the_shops(client: Client, shop: Shop) -> None:
    summer = next(
        c
        for c in shop.customers.records.values()
        if 5 <= c.modified.month <= 9 and not c.modified.microsecond
    )
    local = summer.modified
    utc = local.replace(tzinfo=shop.zone).astimezone(UTC)
    for start in (local.isoformat(), utc.isoformat(), utc.strftime("%Y-%m-%dT%H:%M:%S.0000000Z")):
        assert summer.id in client.ids(
            "Customers", "ListCustomersModified", startDate=start, endDate=ALWAYS["endDate"]
        )
    late = utc.replace(tzinfo=None).isoformat()  # taken for London time, it is an hour too early
    assert summer.id not in client.ids(
        "Customers", "ListCustomersModified", startDate=ALWAYS["startDate"], endDate=late
    )


def _fault(answer: httpx.Response) -> str:
    assert answer.status_code == 500
    root = etree.fromstring(answer.content)
    assert "soap:Fault" in answer.text
    return " ".join(str(part) for part in root.itertext())


def test_a_missing_or_unknown_action_is_a_fault(sandbox: ShopSandbox) -> None:
    client = Client(sandbox)
    assert "valid action" in _fault(client.post("Customers", "<x/>", None))
    assert "did not recognize" in _fault(client.post("Customers", "<x/>", f"{API}Nothing"))
    elsewhere = f'<Retrieve xmlns="{API}"/>'
    assert "did not recognize" in _fault(client.post("Customers", elsewhere, f"{API}Retrieve"))
    wrong_body = f'<RetrieveCustomers xmlns="{ORDERS}"/>'
    assert "not what the action" in _fault(client.post("Customers", wrong_body, f"{API}RetrieveCustomers"))


def test_soap_1_2_may_leave_the_action_to_the_body(sandbox: ShopSandbox) -> None:
    client = Client(sandbox, "1.2")
    body = (
        f'<Authenticate xmlns="{API}"><username>sandbox</username><password>sandbox</password></Authenticate>'
    )
    assert client.post("Customers", body, None).status_code == 200
    assert "soap:Sender" in _fault(client.post("Customers", "<x/>", None))


@pytest.mark.parametrize(
    "content",
    [
        b"<not xml",
        b"",
        b"<Envelope/>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b"<a>" + b" " * (4 * 1024 * 1024) + b"</a>",
    ],
)
def test_what_is_no_envelope_is_a_fault(sandbox: ShopSandbox, content: bytes) -> None:
    headers = {"content-type": "text/xml", "soapaction": f'"{API}Authenticate"'}
    http = Client(sandbox).http
    _fault(http.post("/global/api/Customers.asmx", content=content, headers=headers))


@pytest.mark.parametrize(
    ("service", "operation", "given"),
    [
        ("Customers", "ListCustomersModified", {"startDate": "yesterday", "endDate": "2100-01-01T00:00:00"}),
        ("Customers", "ListCustomersModified", {"startDate": "2000-01-01T00:00:00"}),
        ("Customers", "RetrieveCustomers", {"customerIDs": ["x"]}),
        ("Orders", "RetrieveRelatedOrders", {"orderID": ""}),
    ],
)
def test_unreadable_arguments_are_a_fault(
    client: Client, service: str, operation: str, given: dict[str, Given]
) -> None:
    _fault(client.send(service, operation, authenticationToken=client.token, **given))


def test_plain_posts_and_gets_work_where_no_argument_is_a_list(sandbox: ShopSandbox) -> None:
    client = Client(sandbox)
    client.sign_in()
    given = {"authenticationToken": client.token, **ALWAYS}
    for answer in (
        client.http.get("/global/api/Customers.asmx/ListCustomersModified", params=given),
        client.http.post("/global/api/Customers.asmx/ListCustomersModified", data=given),
    ):
        assert answer.status_code == 200
        assert len(etree.fromstring(answer.content).findall(f".//{{{API}}}int")) == 60
    assert client.http.get("/global/api/Customers.asmx/RetrieveCustomers", params=given).status_code == 500
    assert client.http.get("/global/api/Nowhere.asmx").status_code == 404
    assert "Authenticate" in client.http.get("/global/api/Customers.asmx").text
    assert client.http.post("/global/api/Customers.asmx", json={}).status_code == 500


def _faulty(client: Client, **faults: object) -> None:
    assert client.http.post("/sandbox/faults", json=faults).status_code == 200


def test_faults_play_by_rate_and_stop_when_cleared(sandbox: ShopSandbox, clock: FakeClock) -> None:
    client = Client(sandbox)
    client.sign_in()

    def once() -> httpx.Response:
        return client.send("Customers", "ListCustomersModified", authenticationToken=client.token, **ALWAYS)

    _faulty(client, error=1)
    assert "soap:Server" in _fault(once())
    _faulty(client, refuse=1)
    assert "<Success" in once().text
    _faulty(client, html=1)
    assert once().headers["content-type"].startswith("text/html")
    _faulty(client, drop=1)
    with pytest.raises(httpx.RemoteProtocolError):
        once()
    _faulty(client, slow=1, slow_seconds=30)
    before = clock.monotonic()
    assert once().status_code == 200
    assert clock.monotonic() - before == 30
    _faulty(client, error=1, operations=["Orders.Retrieve"])
    assert once().status_code == 200
    _faulty(client, error=0.5, seed=3)
    first = [once().status_code for _ in range(20)]
    _faulty(client, error=0.5, seed=3)
    assert [once().status_code for _ in range(20)] == first
    assert set(first) == {200, 500}
    _faulty(client)
    assert {once().status_code for _ in range(20)} == {200}
    stats = client.http.get("/sandbox/stats").json()
    assert stats["faults"]["drop"] == 1
    assert stats["calls"]["Customers.ListCustomersModified"] == 66


def test_a_poisoned_id_fails_every_call_that_touches_it_and_a_vanished_one_is_not_retrieved(
    sandbox: ShopSandbox, shop: Shop
) -> None:
    client = Client(sandbox)
    client.sign_in()
    ids = client.ids("Orders", "ListOrdersCreated", **ALWAYS)
    bad, good = ids[7], ids[8]
    _faulty(client, poison={"orders": [bad]}, vanished={"orders": [good]})

    def send(operation: str, **given: Given) -> httpx.Response:
        return client.send("Orders", operation, authenticationToken=client.token, **given)

    _fault(send("ListOrdersCreated", **ALWAYS))
    _fault(send("Retrieve", orderIDs=[str(bad), str(good)]))
    _fault(send("RetrieveRelatedOrders", orderID=str(bad)))
    edge = shop.orders.records[good].created.isoformat()
    assert good in client.ids("Orders", "ListOrdersCreated", startDate=edge, endDate=ALWAYS["endDate"])
    assert client.rows("Orders", "Retrieve", "Order", orderIDs=[str(good)]) == []


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"error": 2}', b'{"errors": 1}', b'{"poison": {"shops": [1]}}']
)
def test_a_fault_order_that_makes_no_sense_is_refused(sandbox: ShopSandbox, body: bytes) -> None:
    answer = Client(sandbox).http.post("/sandbox/faults", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]
