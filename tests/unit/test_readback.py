"""Reading back ahead: in order, with its errors, and without waiting for what nobody wants any more."""

import threading

import httpx
import pytest
from prometheus_client import CollectorRegistry

from estarsync_core.errors import Stop
from estarsync_runtime.dotdigital.client import DotdigitalClient
from estarsync_runtime.dotdigital.readback import read_contacts
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.testing import FakeClock

LIMIT = {"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": "500", "X-RateLimit-Reset": "30"}


def client(handle) -> DotdigitalClient:
    http = httpx.Client(base_url="https://r1-api.dotdigital.com", transport=httpx.MockTransport(handle))
    return DotdigitalClient(http, FakeClock(), Metrics(CollectorRegistry()))


def page(number: int, last: int) -> httpx.Response:
    items = [{"identifiers": {"email": f"C{number}.{each}@a.example"}} for each in range(2)]
    links = {} if number == last else {"next": {"marker": str(number + 1)}}
    return httpx.Response(200, json={"_items": items, "_links": links}, headers=LIMIT)


def number_of(request: httpx.Request) -> int:
    return int(request.url.params.get("marker", "0"))


def test_pages_come_in_order_and_at_most_two_wait():
    asked: list[int] = []
    three = threading.Event()

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(number_of(request))
        if len(asked) == 3:
            three.set()
        return page(number_of(request), 9)

    items = read_contacts(client(handle), 1)
    assert next(items)[0] == "c0.0@a.example"
    assert three.wait(10)  # the first is looked at, two more are fetched, and no more than that
    assert len(asked) <= 3
    rest = [email for email, _ in items]
    assert rest == [f"c{each // 2}.{each % 2}@a.example" for each in range(1, 20)]
    assert asked == list(range(10))


def test_a_refusal_comes_after_what_was_read_before():
    def handle(request: httpx.Request) -> httpx.Response:
        if number_of(request) == 1:
            return httpx.Response(403, json={"errorCode": "no"}, headers=LIMIT)
        return page(0, 9)

    items = read_contacts(client(handle), 1)
    assert [next(items)[0] for _ in range(2)] == ["c0.0@a.example", "c0.1@a.example"]
    with pytest.raises(Stop, match="403"):
        next(items)
