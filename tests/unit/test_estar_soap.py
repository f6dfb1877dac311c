"""The SOAP client against a responder that does what it is told."""

import random
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
from prometheus_client import CollectorRegistry

from estarsync_core.errors import ConfigurationError, RetryLater
from estarsync_core.estar.windows import Window
from estarsync_core.profile import TenantProfile, load_profile
from estarsync_runtime.estar.soap import Credentials, EstarClient, Refused, TooSlow
from estarsync_runtime.estar.source import EstarSource
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.testing import FakeClock

PROFILE = """
timezone: Pacific/Auckland
websites: {"1": {currency: NZD, product_url: "https://x/{id}", image_base: "https://x"}}
"""
WHO = Credentials("user", "secret")
RNG = random.Random(1)  # noqa: S311 - spreads pauses


def xml(inside: str, status: int = 200, kind: str = "text/xml; charset=utf-8") -> httpx.Response:
    body = f'<e:Envelope xmlns:e="x"><e:Body><R><RResult>{inside}</RResult></R></e:Body></e:Envelope>'
    return httpx.Response(status, headers={"content-type": kind}, text=body)


def refusal(message: str, code: int = 3) -> httpx.Response:
    return xml(f"<Success>false</Success><Code>{code}</Code><Message>{message}</Message>")


class Site:
    """Gives a token to whoever asks, and to other calls the next of its answers (the last one again and again)."""

    def __init__(self, *answers: httpx.Response | Exception, profile: str = PROFILE) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.tokens = 0
        self.clock = FakeClock()
        self.metrics = Metrics(CollectorRegistry())
        self.profile: TenantProfile = load_profile(profile, "test")
        self.client = EstarClient(
            httpx.Client(transport=httpx.MockTransport(self.answer)),
            self.profile,
            "https://shop.example/",
            WHO,
            clock=self.clock,
            rng=RNG,
            metrics=self.metrics,
        )
        self.source = EstarSource(self.client, self.profile)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if b"<Authenticate " in request.content:
            self.tokens += 1
            return xml(f"<Data>token-{self.tokens}</Data>")
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def bodies(self) -> list[str]:
        return [
            request.content.decode() for request in self.requests if b"<Authenticate " not in request.content
        ]


def client_of(answer: httpx.Response, who: Credentials = WHO) -> EstarClient:
    """A client of a site that answers everything alike."""
    site = Site()
    http = httpx.Client(transport=httpx.MockTransport(lambda _: answer))
    return EstarClient(
        http, site.profile, "https://shop.example", who, clock=site.clock, rng=RNG, metrics=site.metrics
    )


def test_the_token_is_the_first_parameter_and_nothing_is_in_the_url() -> None:
    site = Site(xml("<Data><int>7</int><int>8</int><int>7</int></Data>"))
    assert site.source.list_products() == ["7", "8"]
    window = Window(datetime(2025, 12, 31, 11, tzinfo=UTC), datetime(2026, 1, 1, 11, tzinfo=UTC))
    site.source.list_orders_created(window)
    request = site.requests[-1]
    assert str(request.url) == "https://shop.example/global/api/Orders.asmx"
    assert request.headers["soapaction"] == '"http://www.estaronline.com/api/orders/ListOrdersCreated"'
    assert request.headers["content-type"] == "text/xml; charset=utf-8"
    assert (
        '<ListOrdersCreated xmlns="http://www.estaronline.com/api/orders"><authenticationToken>token-1'
        "</authenticationToken><startDate>2025-12-31T23:59:59</startDate><endDate>2026-01-02T00:00:00</endDate>"
    ) in site.bodies[-1]
    assert site.tokens == 1


def test_soap_1_2_has_its_action_in_the_content_type() -> None:
    site = Site(xml("<Data/>"), profile=PROFILE + 'soap: {version: "1.2"}')
    site.source.list_products()
    kind = site.requests[-1].headers["content-type"]
    assert kind == (
        'application/soap+xml; charset=utf-8; action="http://www.estaronline.com/api/ListProducts"'
    )
    assert "http://www.w3.org/2003/05/soap-envelope" in site.bodies[0]
    assert "soapaction" not in site.requests[-1].headers


def test_ids_are_retrieved_in_batches_and_told_from_what_was_not_asked_for() -> None:
    site = Site(
        xml("<Data><Customer><ID>1</ID></Customer><Customer><ID>9</ID></Customer><Customer/></Data>"),
        xml("<Data><Customer><ID> 3 </ID></Customer></Data>"),
        profile=PROFILE + "soap: {operations: {retrieve_customers: {batch: 2}}}",
    )
    assert dict(site.source.retrieve_customers(["1", "2", "3"])) == {"1": {"ID": "1"}, "3": {"ID": " 3 "}}
    assert "<customerIDs><int>1</int><int>2</int></customerIDs>" in site.bodies[0]
    assert "<customerIDs><int>3</int></customerIDs>" in site.bodies[1]


def test_where_the_site_takes_one_id_there_is_one_call_for_each() -> None:
    site = Site(
        xml("<Data><Order><ID>1</ID></Order></Data>"),
        xml("<Data><Order><ID>2</ID></Order></Data>"),
        profile=PROFILE + "soap: {operations: {retrieve_orders: {arguments: {ids: orderID}}}}",
    )
    assert list(site.source.retrieve_orders(["1", "2"])) == ["1", "2"]
    assert "<orderID>1</orderID>" in site.bodies[0]


def test_an_expired_token_is_replaced_once() -> None:
    site = Site(refusal("Your token has expired"), xml("<Data><int>1</int></Data>"))
    site.client.authenticate()
    assert site.source.list_products() == ["1"]
    assert "token-1" in site.bodies[0]
    assert "token-2" in site.bodies[1]

    site = Site(refusal("Your token has expired"))
    site.client.authenticate()
    with pytest.raises(Refused, match=r"ListProducts failed: Success=false, code 3"):
        site.source.list_products()
    assert site.tokens == 2


TROUBLE = [
    httpx.Response(503),
    httpx.Response(500, text="<html>"),
    httpx.Response(200, headers={"content-type": "text/html"}, text="<p>Please wait</p>"),
    httpx.Response(200, text="\n <!DOCTYPE html><p>Please wait</p>"),
    httpx.ConnectError("jo@example.com"),
    httpx.RemoteProtocolError("closed"),
    refusal("busy"),
    xml("<Data/>", status=500),
]


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_that_passes_is_not_seen(trouble: httpx.Response | Exception) -> None:
    site = Site(trouble, trouble, xml("<Data><int>1</int></Data>"))
    assert site.source.list_products() == ["1"]
    assert 0 < site.clock.monotonic() < 5


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_that_stays_is_told_without_personal_data(trouble: httpx.Response | Exception) -> None:
    site = Site(trouble)
    with pytest.raises(RetryLater) as caught:
        site.source.list_products()
    assert "jo@example.com" not in str(caught.value)
    assert len(site.bodies) == 3


def test_the_shops_wish_to_wait_is_respected() -> None:
    site = Site(httpx.Response(429, headers={"retry-after": "7"}), xml("<Data/>"))
    site.source.list_products()
    assert site.clock.monotonic() >= 7
    site = Site(httpx.Response(503, headers={"retry-after": "600"}))
    with pytest.raises(RetryLater) as caught:
        site.source.list_products()
    assert (caught.value.after, len(site.bodies)) == (600, 1)
    site = Site(httpx.Response(503, headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}), xml("<Data/>"))
    assert site.source.list_products() == []


@pytest.mark.parametrize("slow", [httpx.ReadTimeout("x"), httpx.WriteTimeout("x")])
def test_a_slow_answer_is_not_asked_for_again(slow: Exception) -> None:
    site = Site(slow)
    with pytest.raises(TooSlow, match="no answer in 120 s"):
        site.source.list_products()
    assert len(site.bodies) == 1


def test_an_answer_that_drips_is_cut_off() -> None:
    site = Site(httpx.Response(200))

    def drip() -> Iterator[bytes]:
        while True:
            site.clock.advance(50)
            yield b" " * 70_000

    site.answers = [httpx.Response(200, content=drip())]
    with pytest.raises(TooSlow, match="no whole answer in 120 s"):
        site.source.list_products()


def test_an_answer_that_is_too_large_is_cut_off() -> None:
    site = Site(
        xml("<Data>" + "<int>1</int>" * 100 + "</Data>"), profile=PROFILE + "soap: {max_response_bytes: 1000}"
    )
    with pytest.raises(TooSlow, match="larger than 1000 bytes"):
        site.source.list_products()


@pytest.mark.parametrize("status", [301, 401, 403, 404, 410])
def test_a_place_without_an_api_is_a_wrong_setting_at_first_and_trouble_later(status: int) -> None:
    gone = httpx.Response(status, headers={"location": "https://elsewhere"})
    with pytest.raises(ConfigurationError, match=f"ESTAR_BASE_URL: .*HTTP {status}"):
        client_of(gone).authenticate()
    with pytest.raises(RetryLater, match=f"HTTP {status}"):
        Site(gone).source.list_products()


@pytest.mark.parametrize(
    "answer", [refusal("The user name or password is incorrect"), xml("<Data/>"), xml("")]
)
def test_wrong_credentials_name_the_settings_and_not_the_password(answer: httpx.Response) -> None:
    with pytest.raises(
        ConfigurationError, match=r"ESTAR_USERNAME and ESTAR_PASSWORD.*ESTAR_BASE_URL"
    ) as caught:
        client_of(answer).authenticate()
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(WHO)


def test_a_site_too_busy_for_a_token_is_tried_later() -> None:
    with pytest.raises(Refused):
        client_of(refusal("busy")).authenticate()


def test_what_can_not_be_sent_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigurationError, match="control character"):
        client_of(xml(""), Credentials("user", "a\x00b")).authenticate()
    site = Site()
    with httpx.Client() as http:
        nowhere = EstarClient(
            http, site.profile, "x.nz", WHO, clock=site.clock, rng=RNG, metrics=site.metrics
        )
        with pytest.raises(ConfigurationError, match="ESTAR_BASE_URL"):
            nowhere.authenticate()


def test_calls_are_counted_by_operation_and_outcome() -> None:
    site = Site(httpx.Response(503), refusal("busy"), xml("<Data/>"))
    site.source.list_products()
    count = site.metrics.registry.get_sample_value
    for outcome in ("failed", "refused", "answered"):
        labels = {"operation": "Products.ListProducts", "outcome": outcome}
        assert count("estarsync_estar_calls_total", labels) == 1


def test_each_request_is_announced() -> None:
    site = Site(httpx.Response(503), xml("<Data/>"))
    calls: list[int] = []
    client = EstarClient(
        httpx.Client(transport=httpx.MockTransport(site.answer)),
        site.profile,
        "https://shop.example",
        WHO,
        clock=site.clock,
        rng=RNG,
        metrics=site.metrics,
        before_call=lambda: calls.append(len(site.requests)),
    )
    EstarSource(client, site.profile).list_products()
    assert calls == [0, 1, 2]


def test_calls_are_made_one_at_a_time_with_the_profiles_pause_between() -> None:
    site = Site(xml("<Data><int>1</int></Data>"), profile=PROFILE + "soap: {pause_seconds: 2}")
    moments: list[float] = []
    client = EstarClient(
        httpx.Client(transport=httpx.MockTransport(site.answer)),
        site.profile,
        "https://shop.example",
        WHO,
        clock=site.clock,
        rng=RNG,
        metrics=site.metrics,
        before_call=lambda: moments.append(site.clock.monotonic()),
    )
    source = EstarSource(client, site.profile)
    source.list_products()
    source.list_products()
    site.clock.advance(10)
    source.list_products()
    # The token, then a list; each waits for its turn, and whoever comes late does not wait.
    assert moments == [0, 0, 2, 14]
    assert site.clock.monotonic() == 14


def test_pauses_between_tries_are_spread() -> None:
    seen = set()
    for seed in range(5):
        site = Site(httpx.Response(503), httpx.Response(503), xml("<Data/>"))
        client = EstarClient(
            httpx.Client(transport=httpx.MockTransport(site.answer)),
            site.profile,
            "https://shop.example",
            WHO,
            clock=site.clock,
            rng=random.Random(seed),  # noqa: S311 - spreads pauses
            metrics=site.metrics,
        )
        EstarSource(client, site.profile).list_products()
        seen.add(site.clock.monotonic())
    assert len(seen) == 5
    assert max(seen) < 2.5


def test_a_large_answer_is_read_without_a_second_copy_of_it() -> None:
    size = 200_000
    body = b"<e:Envelope xmlns:e='x'><e:Body><R><RResult><Data>%s</Data></RResult></R></e:Body></e:Envelope>"
    content = body % (
        b"<int>1</int><!-- a comment that nobody keeps, but that has to be read all the same -->" * size
    )
    site = Site(httpx.Response(200, headers={"content-type": "text/xml"}, content=content))
    site.client.authenticate()
    tracemalloc.start()
    try:
        assert site.source.list_products() == ["1"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * len(content)
