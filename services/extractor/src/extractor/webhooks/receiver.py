"""The endpoint: a POST on any path. It reads, verifies, appends, and only then says yes.

| answer | when | what the shop should do |
|---|---|---|
| 204 | the message is durable; also where it was there before | go on |
| 400 | signed, but not JSON or not a notification | tell us |
| 401 | no signature, or a wrong one | use the right secret |
| 405 | not a POST | |
| 408 | the body did not come in time | post again |
| 413 | larger than the limit; the rest of it is not read | |
| 503 | Kafka did not take it | post again |

Neither an answer nor a log line holds anything of a body.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from estarsync_core.clock import Clock
from estarsync_core.errors import InvalidRecord, RetryLater
from estarsync_core.estar.notifications import SIGNATURE_HEADER, is_signed, read_notification
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.tracing import OFF, Role, Tracing
from extractor.webhooks.appender import Appender

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a sender may ask for."""

    bytes: int
    read_seconds: float


class _Refusal(Exception):  # noqa: N818 - it is an answer, not a failure of ours
    def __init__(self, status: int, outcome: str, text: str) -> None:
        self.status = status
        self.outcome = outcome
        self.text = text
        super().__init__(text)


class Receiver:
    """An ASGI application. It keeps nothing, so that any number of replicas can run.

    Args:
        secrets: any of which may have signed.
        appender: where verified notifications go.
        limits: for each request.
        clock: the time.
        metrics: where requests are counted.
        tracing: where notifications are shown; their context goes with them.
    """

    def __init__(
        self,
        secrets: Sequence[bytes],
        appender: Appender,
        limits: Limits,
        clock: Clock,
        metrics: Metrics,
        tracing: Tracing = OFF,
    ) -> None:
        self._secrets = secrets
        self._appender = appender
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        started = self._clock.monotonic()
        try:
            await self._accept(Request(scope, receive))
            outcome, response = "accepted", Response(status_code=204)
        except ClientDisconnect:
            self._metrics.webhooks.labels("disconnected").inc()
            return
        except _Refusal as refusal:
            outcome, response = refusal.outcome, _refused(refusal)
        self._metrics.webhooks.labels(outcome).inc()
        self._metrics.webhook_seconds.observe(self._clock.monotonic() - started)
        await response(scope, receive, send)

    async def _accept(self, request: Request) -> None:
        if request.method != "POST":
            raise _Refusal(405, "wrong_method", "post notifications here")
        try:
            async with asyncio.timeout(self._limits.read_seconds):
                body = await self._body(request)
        except TimeoutError:
            raise _Refusal(408, "too_slow", "the body did not come in time") from None
        signature = request.headers.get(SIGNATURE_HEADER, "").encode("latin-1")
        if not is_signed(body, signature, self._secrets):
            raise _Refusal(401, "unsigned", f"the header {SIGNATURE_HEADER} is missing or wrong")
        try:
            notification = read_notification(body)
        except InvalidRecord as error:
            raise _Refusal(400, "malformed", f"this is no notification: {error.code}") from None
        key = str(notification.subscriber).encode()
        headers = notification.headers(self._clock.now())
        # The shop's own context is not taken over: whoever posts could write into any trace.
        facts = {"estarsync.subscriber": notification.subscriber, "estarsync.sequence": notification.sequence}
        try:
            with self._tracing.span("receive notification", facts, role=Role.SERVER) as span:
                await self._appender.append(key, notification.encode(), headers + span.header)
        except RetryLater as error:
            _log.warning("notification_not_written", reason=str(error))
            raise _Refusal(503, "unavailable", "try again") from None

    async def _body(self, request: Request) -> bytes:
        too_large = _Refusal(413, "too_large", f"send at most {self._limits.bytes} bytes")
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._limits.bytes:
            raise too_large
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._limits.bytes:
                raise too_large
        return bytes(body)


def _refused(refusal: _Refusal) -> Response:
    headers = {405: {"allow": "POST"}, 503: {"retry-after": "5"}}.get(refusal.status, {})
    if refusal.status in {408, 413}:
        headers = {"connection": "close"}  # what is left of the body is nothing to wait for
    return PlainTextResponse(f"{refusal.text}\n", refusal.status, headers)
