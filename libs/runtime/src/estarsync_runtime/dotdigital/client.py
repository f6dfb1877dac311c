"""Calls to Dotdigital: one method per call, one kind of answer, every call within the learned quota."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import Any, Literal
from urllib.parse import quote

import httpx
import msgspec

from estarsync_core.clock import Clock
from estarsync_core.dotdigital.outcomes import NO_ANSWER, error_code
from estarsync_core.rate import Tier, read_headers
from estarsync_runtime.metrics import Metrics

TIMEOUT_SECONDS = 121.0
"""How long Dotdigital may take to answer (API facts, 1)."""

Operation = Literal[
    "account_info",
    "collections",
    "contact_import",
    "contact_import_status",
    "contacts",
    "create_collection",
    "create_data_field",
    "create_list",
    "data_fields",
    "delete_order",
    "delete_products",
    "insight_import",
    "insight_import_status",
    "insight_records",
    "lists",
]
_TIERS: dict[Operation, str] = {
    # The published scopes in prose (API facts, 2.2); an answer's own X-RateLimit-Scope corrects them.
    "account_info": "highCallRate",
    "collections": "mediumCallRate",
    "contact_import": "lowCallRate",
    "contact_import_status": "highCallRate",
    "contacts": "lowCallRate",
    "create_collection": "mediumCallRate",
    "create_data_field": "mediumCallRate",
    "create_list": "mediumCallRate",
    "data_fields": "mediumCallRate",
    "delete_order": "mediumCallRate",
    "delete_products": "lowCallRate",
    "insight_import": "lowCallRate",
    "insight_import_status": "highCallRate",
    "insight_records": "lowCallRate",
    "lists": "mediumCallRate",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a call.

    Attributes:
        status: HTTP status; 0 where no answer came.
        code: Dotdigital's error code, or `""`.
        body: the decoded JSON, or None.
        sent: whether the request may have reached Dotdigital.
    """

    status: int
    code: str
    body: Any
    sent: bool = True


class DotdigitalClient:
    """Dotdigital's API, as far as the sync and its read-back use it. Safe to use from several threads.

    Args:
        http: with base URL, credentials and transport set; it is not closed here.
        clock: for the quota's arithmetic.
        metrics: where calls are counted.
        share: the part of the account's quota that we may use.
    """

    def __init__(self, http: httpx.Client, clock: Clock, metrics: Metrics, share: float = 1.0) -> None:
        self._http = http
        self._clock = clock
        self._metrics = metrics
        self._share = share
        self._lock = Lock()
        self._scopes = dict(_TIERS)
        self._tiers: dict[str, Tier] = {}

    def delay(self, operation: Operation) -> float:
        """Seconds until the quota allows the call; 0 means now."""
        with self._lock:
            return self._tier(operation).delay(self._clock.monotonic())

    def block_all(self, seconds: float) -> None:
        """Make no call of any kind for so long (the flat scheme's hour is used up)."""
        with self._lock:
            for operation in self._scopes:
                self._tier(operation).block(self._clock.monotonic() + seconds)

    def reserve(self, operation: Operation) -> None:
        """Count a call that is about to be made; `call` follows, perhaps on another thread."""
        with self._lock:
            self._tier(operation).sent(self._clock.monotonic())

    def pause(self, seconds: float) -> None:
        """Wait before another try; blocks."""
        self._clock.sleep(seconds)

    def call_when_allowed(self, operation: Operation, method: str, path: str, **request: Any) -> Answer:  # noqa: ANN401 - httpx's own arguments
        """Wait for the quota, then call; blocks for as long as that takes."""
        while (wait := self.delay(operation)) > 0:
            self._clock.sleep(wait)
        self.reserve(operation)
        return self.call(operation, method, path, **request)

    def call(self, operation: Operation, method: str, path: str, **request: Any) -> Answer:  # noqa: ANN401 - httpx's own arguments
        """Make a call that `reserve` has counted. Blocks; raises nothing of httpx's."""
        started = self._clock.monotonic()
        try:
            response = self._http.request(method, path, **request)
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.UnsupportedProtocol,
        ) as error:
            return self._no_answer(operation, type(error).__name__, sent=False)
        except httpx.HTTPError as error:
            return self._no_answer(operation, type(error).__name__, sent=True)
        body = _decoded(response)
        code = error_code(body) if response.status_code >= httpx.codes.BAD_REQUEST else ""
        self._learn(operation, response, code)
        self._metrics.api_calls.labels(operation, response.status_code).inc()
        self._metrics.api_seconds.labels(operation).observe(self._clock.monotonic() - started)
        return Answer(response.status_code, code, body)

    def import_body(self, operation: Operation, path: str, body: Iterable[bytes], size: int) -> Answer:
        """PUT an import's body as a stream of known size."""
        headers = {"Content-Type": "application/json", "Content-Length": str(size)}
        return self.call(operation, "PUT", path, content=body, headers=headers)

    def _tier(self, operation: Operation) -> Tier:
        scope = self._scopes[operation]
        return self._tiers.setdefault(scope, Tier(share=self._share))

    def _no_answer(self, operation: Operation, what: str, *, sent: bool) -> Answer:
        with self._lock:
            self._tier(operation).answered(self._clock.monotonic(), None, rejected=False)
        self._metrics.api_calls.labels(operation, NO_ANSWER).inc()
        return Answer(NO_ANSWER, what, None, sent=sent)

    def _learn(self, operation: Operation, response: httpx.Response, code: str) -> None:
        names = {name.lower(): value for name, value in response.headers.items()}
        quota = read_headers(names, self._server_now(names))
        rejected = response.status_code == httpx.codes.TOO_MANY_REQUESTS and "toomany" not in code.lower()
        with self._lock:
            now = self._clock.monotonic()
            self._tier(operation).answered(now, quota, rejected=rejected)
            if quota.scope and quota.scope != self._scopes[operation]:
                self._scopes[operation] = quota.scope
                learned = self._tier(operation)
                learned.open_calls += 1
                learned.answered(now, quota, rejected=rejected)
            if quota.remaining is not None:
                self._metrics.quota_remaining.labels(self._scopes[operation]).set(quota.remaining)

    def _server_now(self, headers: Mapping[str, str]) -> float:
        try:
            return parsedate_to_datetime(headers["date"]).timestamp()
        except (KeyError, ValueError):
            return self._clock.now().timestamp()


def path_value(value: str) -> str:
    """A value as one segment of a path: everything that is not plain is percent-encoded, `/` and `+` too."""
    return quote(value, safe="")


def _decoded(response: httpx.Response) -> Any:  # noqa: ANN401 - any JSON
    try:
        return msgspec.json.decode(response.content) if response.content else None
    except msgspec.DecodeError:
        return None
