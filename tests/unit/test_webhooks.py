"""The webhook endpoint in the process: every answer, and nothing of a body in any of them."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import CollectorRegistry
from typing_extensions import override

from estarsync_core.errors import ConfigurationError, RetryLater
from estarsync_core.estar.notifications import sign
from estarsync_core.headers import RawHeaders
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import load
from extractor.webhooks.appender import Appender
from extractor.webhooks.receiver import Limits, Receiver
from extractor.webhooks.settings import WebhookSettings

BODY = b'{"subscriber": 7, "sequence": 12, "type": "order.confirmed", "message": {"orderID": "41", "name": "Kiri"}}'
SECRET, NEXT = b"this year's", b"next year's"


class Memory(Appender):
    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes, RawHeaders]] = []
        self.down = False

    @override
    async def append(self, key: bytes, value: bytes, headers: RawHeaders) -> None:
        if self.down:
            raise RetryLater("Kafka: _MSG_TIMED_OUT")
        self.records.append((key, value, headers))


class World:
    def __init__(self, limit: int = 2048) -> None:
        self.kafka = Memory()
        self.metrics = Metrics(CollectorRegistry())
        limits = Limits(limit, 0.2)
        self.app = Receiver([SECRET, NEXT], self.kafka, limits, SystemClock(), self.metrics)

    def send(
        self,
        body: bytes | AsyncIterator[bytes] = BODY,
        signature: bytes | None = None,
        method: str = "POST",
        path: str = "/hook",
    ) -> httpx.Response:
        headers = {} if signature is None else {"X-Estar-Signature": signature.decode()}

        async def call() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(self.app), base_url="http://us"
            ) as client:
                return await client.request(method, path, content=body, headers=headers)

        return asyncio.run(call())

    def count(self, outcome: str) -> float:
        return self.metrics.registry.get_sample_value("estarsync_webhooks_total", {"outcome": outcome}) or 0.0


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("secret", [SECRET, NEXT])
@pytest.mark.parametrize("path", ["/", "/hook/any"])
def test_a_signed_notification_is_appended_and_then_accepted(world: World, secret: bytes, path: str) -> None:
    response = world.send(signature=sign(secret, BODY), path=path)
    assert (response.status_code, response.content) == (204, b"")
    ((key, value, headers),) = world.kafka.records
    assert key == b"7"
    assert value == b'{"subscriber":7,"sequence":12,"type":"order.confirmed","message":{"orderID":"41"}}'
    assert dict(headers)["ce_id"] == b"7/12"
    assert world.count("accepted") == 1


def test_a_duplicate_is_accepted_too(world: World) -> None:
    signature = sign(SECRET, BODY)
    assert [world.send(signature=signature).status_code for _ in range(2)] == [204, 204]


@pytest.mark.parametrize(
    "signature", [None, b"", b"wrong", sign(b"somebody's", BODY), sign(SECRET, BODY + b" ")]
)
def test_without_the_right_signature_nothing_is_read(world: World, signature: bytes | None) -> None:
    response = world.send(signature=signature)
    assert response.status_code == 401
    assert "Kiri" not in response.text
    assert world.kafka.records == []
    assert world.count("unsigned") == 1


@pytest.mark.parametrize("body", [b"", b"Kiri", b'{"name": "Kiri"}', b'["Kiri"]'])
def test_what_is_no_notification_is_refused(world: World, body: bytes) -> None:
    response = world.send(body, sign(SECRET, body))
    assert response.status_code == 400
    assert "Kiri" not in response.text
    assert world.kafka.records == []


def test_what_is_too_large_is_not_read_to_its_end(world: World) -> None:
    body = b"x" * 4096
    assert world.send(body, sign(SECRET, body)).status_code == 413
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1024
            yield b"x" * 1024

    assert world.send(endless()).status_code == 413
    assert sent <= 8192
    assert world.count("too_large") == 2


def test_a_body_that_never_ends_is_not_waited_for(world: World) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)
        yield b"}"

    assert world.send(slow()).status_code == 408


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_only_posts_are_taken(world: World, method: str) -> None:
    response = world.send(method=method, signature=sign(SECRET, BODY))
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_while_kafka_is_away_the_shop_is_told_to_try_again(world: World) -> None:
    world.kafka.down = True
    response = world.send(signature=sign(SECRET, BODY))
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert world.count("unavailable") == 1


def test_settings_hide_the_secrets_and_refuse_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    monkeypatch.setenv("ESTAR_WEBHOOK_SECRET", SECRET.decode())
    assert load(WebhookSettings).secrets == [SECRET]
    monkeypatch.setenv("ESTAR_WEBHOOK_SECRET_NEXT", NEXT.decode())
    assert load(WebhookSettings).secrets == [SECRET, NEXT]
    assert "year" not in repr(load(WebhookSettings))
    monkeypatch.setenv("ESTAR_WEBHOOK_SECRET", "")
    monkeypatch.setenv("WEBHOOK_MAX_BYTES", "1")
    with pytest.raises(ConfigurationError) as caught:
        load(WebhookSettings)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "ESTAR_WEBHOOK_SECRET",
        "WEBHOOK_MAX_BYTES",
    ]
