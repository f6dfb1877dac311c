"""Calls to Dotdigital: quota, answers, lost replies."""

import threading
from collections.abc import Callable, Iterator

import httpx
import pytest
from prometheus_client import CollectorRegistry

from estarsync_core.rate import FIRST_LIMIT
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.dotdigital.client import DotdigitalClient, Ticket, path_value
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.testing import FakeClock
from sandbox.asgi import asgi, serving

Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler, clock: FakeClock | None = None) -> DotdigitalClient:
    http = httpx.Client(base_url="https://r1-api.dotdigital.com/", transport=httpx.MockTransport(handler))
    return DotdigitalClient(http, clock or FakeClock(), Metrics(CollectorRegistry()))


def quota(scope: str | None = "lowCallRate", limit: int = 10, remaining: int = 9) -> dict[str, str]:
    headers = {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": "60",
    }
    return headers if scope is None else {**headers, "X-RateLimit-Scope": scope}


def ticket(found: DotdigitalClient, operation="contact_import") -> Ticket:
    made = found.reserve(operation)
    assert made is not None
    return made


def test_an_answer_has_status_code_and_body():
    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(400, json={"errorCode": "contacts:badJson", "description": "ruru@shop.example"})

    found = client(handler)
    answer = found.call(ticket(found), "GET", "/x")
    assert (answer.status, answer.code, answer.sent) == (400, "contacts:badJson", True)
    assert found.address == "https://r1-api.dotdigital.com"


def test_a_body_that_is_not_json_is_none():
    found = client(lambda _: httpx.Response(200, text="<html>"))
    assert found.call(ticket(found), "GET", "/x").body is None


@pytest.mark.parametrize(
    ("error", "sent"),
    [
        (httpx.ConnectError("x"), False),
        (httpx.ConnectTimeout("x"), False),
        (httpx.ReadTimeout("x"), True),
        (httpx.RemoteProtocolError("x"), True),
        (httpx.WriteError("x"), True),
    ],
)
def test_no_answer_says_whether_the_request_may_have_left(error, sent):
    def handler(_: httpx.Request) -> httpx.Response:
        raise error

    found = client(handler)
    answer = found.call(ticket(found), "PUT", "/x", content=b"{}")
    assert (answer.status, answer.code, answer.sent) == (0, type(error).__name__, sent)
    assert found.reserve("contact_import") is not None  # the call is no longer open


def test_a_mistake_of_ours_does_not_leave_a_call_open():
    def handler(_: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError

    found = client(handler)
    with pytest.raises(ZeroDivisionError):
        found.call(ticket(found), "GET", "/x")
    assert found.delay("contact_import") == 0


def test_one_call_at_a_time_in_a_tier_and_tiers_are_apart():
    found = client(lambda _: httpx.Response(200, headers=quota()))
    ticket(found)
    assert found.reserve("insight_import") is None
    assert found.delay("insight_import") > 0
    assert found.reserve("contact_import_status") is not None


def test_an_old_ticket_is_refused():
    clock = FakeClock()
    found = client(lambda _: httpx.Response(200), clock)
    made = ticket(found)
    clock.advance(11)
    answer = found.call(made, "PUT", "/x")
    assert (answer.status, answer.code, answer.sent) == (0, "TicketTooOld", False)


def test_the_scope_in_an_answer_corrects_the_tier():
    def handler(request: httpx.Request) -> httpx.Response:
        used_up = request.url.path == "/status"
        return httpx.Response(200, headers=quota("lowCallRate", remaining=0 if used_up else 9))

    found = client(handler)
    assert found.call_when_allowed("contact_import_status", "GET", "/status").status == 200
    assert found.delay("contact_import_status") > 50
    assert found.delay("contact_import") > 50  # they share a tier, as it turned out
    assert found.delay("account_info") == 0


def test_calls_that_nobody_counts_are_not_held_up():
    clock = FakeClock()

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={} if request.url.path == "/status" else quota())

    found = client(handler, clock)
    found.call_when_allowed("contact_import", "PUT", "/import")
    for _ in range(2 * FIRST_LIMIT):
        found.call_when_allowed("contact_import_status", "GET", "/status")
    assert clock.monotonic() == 0
    for _ in range(3):
        assert found.reserve("contact_import_status") is not None


def test_without_any_header_every_call_is_counted():
    clock = FakeClock()
    found = client(lambda _: httpx.Response(200), clock)
    for _ in range(FIRST_LIMIT + 1):
        found.call_when_allowed("contact_import_status", "GET", "/status")
    assert clock.monotonic() >= 60


def test_an_unlimited_call_that_is_turned_away_is_counted_again():
    answers = iter([httpx.Response(200, headers=quota()), httpx.Response(200), httpx.Response(429)])
    found = client(lambda _: next(answers))
    found.call_when_allowed("contact_import", "PUT", "/import")
    found.call_when_allowed("contact_import_status", "GET", "/status")
    found.call(ticket(found, "contact_import_status"), "GET", "/status")
    assert found.delay("contact_import_status") >= 60


def test_too_many_open_imports_are_not_the_quota():
    body = {"errorCode": "contacts:tooManyActiveImports", "description": "x"}
    found = client(lambda _: httpx.Response(429, json=body, headers=quota()))
    found.call(ticket(found), "PUT", "/import")
    assert found.delay("contact_import") == 0


def test_the_date_header_is_the_servers_clock():
    headers = {
        **quota(remaining=0),
        "Date": "Thu, 01 Jan 2026 00:00:00 GMT",
        "X-RateLimit-Reset": "1767225630",
    }
    clock = FakeClock()
    clock.advance(1000)  # ours is wrong
    found = client(lambda _: httpx.Response(200, headers=headers), clock)
    found.call(ticket(found), "PUT", "/import")
    assert 30 <= found.delay("contact_import") <= 32
    headers["Date"] = "today"
    found = client(lambda _: httpx.Response(200, headers=headers), FakeClock())
    found.call(ticket(found), "PUT", "/import")
    assert 30 <= found.delay("contact_import") <= 32


def test_a_used_up_hour_is_waited_out_longer_each_time_and_fewer_calls_follow():
    clock = FakeClock()
    used_up = httpx.Response(400, json={"message": "Error: ERROR_APIUSAGE_EXCEEDED"})
    answers = [httpx.Response(200), used_up, used_up, httpx.Response(200)]
    found = client(lambda _: answers.pop(0), clock)
    waits = []
    for _ in range(4):
        while (mine := found.reserve("contact_import")) is None:
            clock.advance(found.delay("contact_import"))
        waits.append(round(clock.monotonic()))
        found.call(mine, "PUT", "/import")
    assert waits == [0, 0, 600, 1800]
    assert found.interval("contact_import") == found.interval("lists") > 60 / FIRST_LIMIT


@pytest.mark.parametrize(("status", "calls"), [(503, 5), (429, 5), (404, 1), (400, 1)])
def test_only_failures_that_pass_are_tried_again(status, calls):
    seen: list[int] = []

    def handler(_: httpx.Request) -> httpx.Response:
        seen.append(status)
        return httpx.Response(status)

    assert client(handler).call_when_allowed("lists", "GET", "/x").status == status
    assert len(seen) == calls


def test_a_time_out_is_not_tried_again():
    seen: list[int] = []

    def handler(_: httpx.Request) -> httpx.Response:
        seen.append(1)
        raise httpx.ReadTimeout("x")

    assert client(handler).call_when_allowed("lists", "GET", "/x").code == "ReadTimeout"
    assert seen == [1]


def test_a_body_is_streamed_with_its_length():
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(202, json={"importId": "1"})

    def body() -> Iterator[bytes]:
        for _ in range(1000):
            yield b"x" * 10_000

    with serving(asgi(handler)) as url:
        http = httpx.Client(base_url=url)
        with DotdigitalClient(http, SystemClock(), Metrics(CollectorRegistry())) as found:
            answer = found.import_body(ticket(found), "/contacts/v3/import", body(), 10_000_000)
    assert answer.status == 202
    assert seen[0].headers["content-length"] == "10000000"
    assert "transfer-encoding" not in seen[0].headers
    assert seen[0].content == b"x" * 10_000_000


def test_it_may_be_used_from_several_threads():
    found = client(lambda _: httpx.Response(200, headers=quota(limit=1000, remaining=500)))
    threads = [
        threading.Thread(target=found.call_when_allowed, args=("lists", "GET", "/x")) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found.delay("lists") == 0


def test_path_values_are_one_segment():
    assert path_value("a+b/c@shop.example") == "a%2Bb%2Fc%40shop.example"
