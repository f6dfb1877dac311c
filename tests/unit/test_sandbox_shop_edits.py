"""A living shop: edits move DateModified, tell of themselves, and keep the truth true."""

import base64
import hashlib
import hmac
import json
import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from estarsync_runtime.testing import FakeClock
from sandbox.estar.faults import WebhookFaults
from sandbox.estar.generate import generate
from sandbox.estar.soap import ShopSandbox
from sandbox.estar.state import Event, Shop
from sandbox.estar.webhooks import Target, deliver

NOON = datetime(2026, 6, 1, 11, tzinfo=UTC)  # 12:00 in London


class Receiver:
    """Takes notifications, and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.status = 204

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self.status)

    def target(self) -> Target:
        return Target("http://hooks.test/estar", "k3y", httpx.Client(transport=httpx.MockTransport(self)))

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.requests]


@pytest.fixture
def shop() -> Shop:
    return generate(60, 5, ZoneInfo("Europe/London"))


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def control(shop: Shop, receiver: Receiver) -> httpx.Client:
    sandbox = ShopSandbox(shop, FakeClock(NOON), target=receiver.target())
    return httpx.Client(transport=httpx.MockTransport(sandbox.handle), base_url="http://shop.test/sandbox")


def edit(control: httpx.Client, **given: object) -> dict[str, Any]:
    answer = control.post("/edit", json={"edits": [given]})
    assert answer.status_code == 200, answer.text
    (done,) = answer.json()["edits"]
    assert isinstance(done, dict)
    return done


def test_a_price_changes(control: httpx.Client, shop: Shop) -> None:
    done = edit(control, kind="price", id=100, price="12.34")
    assert done == {"kind": "price", "entity": "products", "id": 100, "events": []}
    product = shop.products.records[100]
    assert "12.34" in [item.get("Price") for item in product.rows("Items")]
    assert product.body["DateModified"] == "2026-06-01T12:00:00"
    assert shop.products.modified.between(datetime(2026, 6, 1, 12), datetime(2026, 6, 1, 12, 1)) == [100]  # noqa: DTZ001 - the shop's own time


def test_an_e_mail_changes_and_a_customer_unsubscribes(control: httpx.Client, shop: Shop) -> None:
    changed = edit(control, kind="email", email="new@example.com")
    assert shop.customers.records[changed["id"]].body["Email"] == "new@example.com"
    assert "new@example.com" in control.get("/truth").json()["contacts"]["expected"]
    gone = edit(control, kind="unsubscribe")
    assert shop.customers.records[gone["id"]].body["LpmStatus"] == "0"
    assert shop.customers.records[gone["id"]].body["DateModified"] == "2026-06-01T12:00:00"


def test_the_truth_knows_which_e_mails_nobody_has_any_more(control: httpx.Client) -> None:
    first = edit(control, kind="email", email="new@example.com")
    (left,) = control.get("/truth").json()["contacts"]["left"]
    assert left != "new@example.com"
    edit(control, kind="email", id=first["id"], email=left)
    assert control.get("/truth").json()["contacts"]["left"] == ["new@example.com"]


def test_orders_are_placed_split_returned_and_voided(
    control: httpx.Client, shop: Shop, receiver: Receiver
) -> None:
    before = len(shop.events)
    placed = edit(control, kind="order", id=0, email="walk.in@example.com")
    order = shop.orders.records[placed["id"]]
    assert order.created == datetime(2026, 6, 1, 12)  # noqa: DTZ001 - the shop's own time
    revenue = Decimal(control.get("/truth").json()["revenue"])

    splittable = next(
        o for o in shop.orders.records.values() if o.leaf("Status") == "Completed" and not o.children
    )
    edit(control, kind="split", id=splittable.id)
    assert Decimal(control.get("/truth").json()["revenue"]) == revenue
    (child,) = shop.orders.get(splittable.children)
    assert child.body["ParentOrderID"] == str(splittable.id)
    assert splittable.body["DateModified"] == child.body["DateModified"] == "2026-06-01T12:00:00"
    own = Decimal(str(child.body["Total"])) + Decimal(str(splittable.body["Total"]))

    edit(control, kind="return", id=child.id, quantity=1)
    (line,) = child.lines
    came_back = Decimal(line.price) - Decimal(line.discount)
    assert Decimal(control.get("/truth").json()["revenue"]) == revenue - came_back
    assert Decimal(str(child.body["Total"])) + Decimal(str(splittable.body["Total"])) == own - came_back

    edit(control, kind="void", id=splittable.id)
    assert splittable.body["Status"] == "Cancelled"
    kinds = [event.type for event in shop.events[before:]]
    assert kinds[:2] == ["order.confirmed", "order.split"]
    assert kinds[2].startswith("order.item.")
    assert kinds[3] == "order.voided"
    assert [m["sequence"] for m in receiver.messages] == list(range(before + 1, before + 5))
    assert receiver.messages[0]["message"] == {"orderID": str(order.id)}


def test_random_edits_repeat_by_seed_and_always_move_on(receiver: Receiver) -> None:
    def play() -> tuple[dict[str, Any], Shop]:
        shop = generate(60, 5, ZoneInfo("Europe/London"))
        early = FakeClock(datetime(2020, 1, 1, tzinfo=UTC))  # behind the shop's own history
        sandbox = ShopSandbox(shop, early)
        http = httpx.Client(transport=httpx.MockTransport(sandbox.handle), base_url="http://shop.test")
        answer = http.post("/sandbox/edit", json={"seed": 4, "count": 80})
        done: dict[str, Any] = answer.json()
        return done, shop

    first, shop = play()
    again, _ = play()
    assert first == again
    assert {done["kind"] for done in first["edits"]} == {
        "price", "email", "unsubscribe", "order", "split", "return", "void",
    }  # fmt: skip
    untouched = generate(60, 5, ZoneInfo("Europe/London"))
    for done in first["edits"]:
        if done["entity"] == "customers":
            old = untouched.customers.records[done["id"]].modified
            assert shop.customers.records[done["id"]].modified > old
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"edits": [{"kind": "void", "id": 1}]}, "asked for id 1"),
        ({"edits": [{"kind": "price", "price": "free"}]}, "price"),
        ({"edits": [{"kind": "explode"}]}, "explode"),
        ({"seeds": 1}, "seeds"),
    ],
)
def test_an_impossible_edit_says_why(control: httpx.Client, body: object, why: str) -> None:
    answer = control.post("/edit", json=body)
    assert answer.status_code == 400
    assert why in answer.json()["error"]


def test_an_unknown_control_endpoint_names_those_there_are(control: httpx.Client) -> None:
    answer = control.get("/edit")
    assert answer.status_code == 404
    assert "POST /sandbox/edit" in answer.json()["error"]


def test_a_notification_is_signed_over_its_raw_body(control: httpx.Client, receiver: Receiver) -> None:
    answer = control.post("/edit", json={"edits": [{"kind": "order"}]}).json()
    assert answer["notifications"] == {"accepted": 1, "failed": 0, "dropped": 0}
    (request,) = receiver.requests
    signature = base64.b64encode(hmac.new(b"k3y", request.content, hashlib.sha256).digest()).decode()
    assert request.headers["x-estar-signature"] == signature
    assert receiver.messages[0].keys() == {"subscriber", "sequence", "type", "message"}


def test_a_refused_notification_is_counted_and_not_repeated(
    control: httpx.Client, receiver: Receiver
) -> None:
    receiver.status = 503
    answer = control.post("/edit", json={"edits": [{"kind": "order"}, {"kind": "order"}]}).json()
    assert answer["notifications"] == {"accepted": 0, "failed": 2, "dropped": 0}
    assert len(receiver.requests) == 2


def test_an_unreachable_receiver_is_counted() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody there", request=request)

    target = Target("http://hooks.test", "k", httpx.Client(transport=httpx.MockTransport(refuse)))
    result = deliver(target, [Event(1, 1, "order.voided", {})], WebhookFaults(), random.Random(1))  # noqa: S311 - seeded
    assert (result.accepted, result.failed) == (0, 1)


def test_notifications_are_lost_doubled_and_shuffled_by_seed(receiver: Receiver) -> None:
    events = [Event(1, n, "order.confirmed", {"orderID": str(n)}) for n in range(1, 51)]
    faults = WebhookFaults(drop=0.2, duplicate=0.2, shuffle=True)
    result = deliver(receiver.target(), events, faults, random.Random(3))  # noqa: S311 - seeded
    sequences = [message["sequence"] for message in receiver.messages]
    assert result.dropped == 50 - len(set(sequences)) > 0
    assert result.accepted == len(sequences) > len(set(sequences))
    assert sequences != sorted(sequences)
