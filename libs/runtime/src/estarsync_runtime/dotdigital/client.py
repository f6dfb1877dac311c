"""Calls to Dotdigital: one kind of answer, every call within the learned quota."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx
import msgspec

from estarsync_core.clock import Clock
from estarsync_core.dotdigital.outcomes import NO_ANSWER, USED_UP, error_code, too_many_open
from estarsync_core.rate import QuotaHeaders, Tier, read_headers
from estarsync_runtime.dotdigital.reports import receive_report
from estarsync_runtime.metrics import Metrics

TIMEOUT_SECONDS = 121.0
"""How long Dotdigital may take to answer (API facts, 1)."""
_TICKET_SECONDS = 10.0
_TRIES = 5
_LONGEST_WAIT = 30.0
_FIRST_WAIT, _HOUR = 600.0, 3600.0  # of the flat scheme's rolling hour
_FLAT = "flat"
_IN_MEMORY = 16 * 1024 * 1024  # of a report: that of a full batch of contacts is half as large

Operation = Literal[
    "account_info",
    "collections",
    "contact",
    "contact_import",
    "contact_import_status",
    "contacts",
    "create_collection",
    "create_data_field",
    "create_list",
    "data_fields",
    "delete_contact",
    "delete_order",
    "delete_products",
    "find_contact",
    "insight_import",
    "insight_import_status",
    "insight_record",
    "insight_records",
    "lists",
    "rename_contact",
]
_TIERS: dict[Operation, str] = {
    # The published scopes in prose (API facts, 2.2); an answer's own X-RateLimit-Scope corrects them.
    "account_info": "highCallRate",
    "collections": "mediumCallRate",
    "contact": "highCallRate",
    "contact_import": "lowCallRate",
    "contact_import_status": "highCallRate",
    "contacts": "lowCallRate",
    "create_collection": "mediumCallRate",
    "create_data_field": "mediumCallRate",
    "create_list": "mediumCallRate",
    "data_fields": "mediumCallRate",
    "delete_contact": "mediumCallRate",
    "delete_order": "mediumCallRate",
    "delete_products": "lowCallRate",
    "find_contact": "highCallRate",
    "insight_import": "lowCallRate",
    "insight_import_status": "highCallRate",
    "insight_record": "highCallRate",
    "insight_records": "lowCallRate",
    "lists": "mediumCallRate",
    "rename_contact": "mediumCallRate",
}
_KNOWN_TIERS = frozenset(_TIERS.values())
_SPREAD: frozenset[Operation] = frozenset({"contact_import", "insight_import"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a call.

    Attributes:
        status: HTTP status; 0 where no answer came.
        code: Dotdigital's error code, or `""`; where no answer came, the kind of failure.
        body: the decoded JSON, or None.
        sent: whether the request may have reached Dotdigital.
    """

    status: int
    code: str
    body: Any
    sent: bool = True


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to make one call, as `reserve` gives it; `call` takes it, once."""

    operation: Operation
    tier: Tier
    number: int
    made: float


class DotdigitalClient:
    """Dotdigital's API, as far as the sync and its read-back use it. Safe to use from several threads.

    Args:
        http: with base URL, credentials and transport set; `close` closes it.
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
        self._scopes: dict[Operation, str | None] = dict(_TIERS)  # None: nobody counts it
        self._tiers: dict[str, Tier] = {}
        self._tiered = False
        self._flat = False  # whether answers say nothing of a quota: then there is one count for all calls
        self._blocked_until = 0.0
        self._used_up_wait = _FIRST_WAIT

    def __enter__(self) -> Self:
        """Use it for a while."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the connections; no call may follow."""
        self._http.close()

    @property
    def address(self) -> str:
        """Where it calls, without a slash at the end."""
        return str(self._http.base_url).rstrip("/")

    def delay(self, operation: Operation, *, spare: bool = False) -> float:
        """Seconds until the quota allows the call; 0 means now.

        Imports are spread over the minute, so that an urgent one never finds it used up; one that is not urgent
        leaves a `spare` call.
        """
        with self._lock:
            return self._delay(operation, spare=spare)

    def interval(self, operation: Operation) -> float:
        """Seconds for each call of a kind that the quota allows; 0 where nobody counts them."""
        with self._lock:
            return 0.0 if self._scopes[operation] is None else self._tier(operation).interval

    def reserve(self, operation: Operation, *, spare: bool = False) -> Ticket | None:
        """The right to make a call now, perhaps on another thread; None where the quota does not allow it."""
        with self._lock:
            if self._delay(operation, spare=spare) > 0:
                return None
            now = self._clock.monotonic()
            tier = self._tier(operation)
            return Ticket(operation, tier, tier.made(now), now)

    def pause(self, seconds: float) -> None:
        """Wait before another try; blocks."""
        self._clock.sleep(seconds)

    def call_when_allowed(self, operation: Operation, method: str, path: str, **request: Any) -> Answer:  # noqa: ANN401 - httpx's own arguments
        """Wait for the quota, then call; blocks for as long as that takes.

        Only for calls that may be made twice: one that fails in a way that passes (quota, 5xx, no answer on an open
        connection) is made again, a few times. What comes in the end is given back, whatever it is.
        """
        tries = 0
        while True:
            while (ticket := self.reserve(operation)) is None:
                self._clock.sleep(self.delay(operation))
            answer = self.call(ticket, method, path, **request)
            tries += 1
            if tries == _TRIES or not _passes(answer):
                return answer
            self._clock.sleep(min(_LONGEST_WAIT, 0.5 * 2**tries))

    def call(self, ticket: Ticket, method: str, path: str, **request: Any) -> Answer:  # noqa: ANN401 - httpx's own arguments
        """Make the call that the ticket is for. Blocks; raises nothing of httpx's.

        A ticket that has grown old is refused (`sent` is false): a process that was stopped for a while must ask
        whether it is still the one that delivers.
        """
        return self._make(ticket, lambda: self._whole(method, path, request))

    def report(self, ticket: Ticket, path: str, folder: Path | None = None, most: int = _IN_MEMORY) -> Answer:
        """Ask for an import's status; the answer's body is a `Report`, or None where it can't be read.

        A large one goes to disk, and is read from there: `body.close()` gives the space back.

        Args:
            ticket: for this call.
            path: of the status.
            folder: on the disk that takes a large report; None for the system's own.
            most: bytes that are held in memory.
        """
        return self._make(ticket, lambda: self._streamed(path, folder, most))

    def _whole(self, method: str, path: str, request: dict[str, Any]) -> tuple[httpx.Response, Any]:
        response = self._http.request(method, path, **request)
        return response, _decoded(response.content)

    def _streamed(self, path: str, folder: Path | None, most: int) -> tuple[httpx.Response, Any]:
        with self._http.stream("GET", path) as response:
            if not response.is_success:
                return response, _decoded(response.read())
            return response, receive_report(response.iter_bytes(), folder, most)

    def _make(self, ticket: Ticket, exchange: Callable[[], tuple[httpx.Response, Any]]) -> Answer:
        operation, started = ticket.operation, self._clock.monotonic()
        if started - ticket.made > _TICKET_SECONDS:
            return self._no_answer(ticket, "TicketTooOld", sent=False)
        try:
            response, body = exchange()
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.UnsupportedProtocol,
        ) as error:
            return self._no_answer(ticket, type(error).__name__, sent=False)
        except httpx.HTTPError as error:
            return self._no_answer(ticket, type(error).__name__, sent=True)
        except BaseException:
            self._no_answer(ticket, "Interrupted", sent=True)
            raise
        code = error_code(body) if response.status_code >= httpx.codes.BAD_REQUEST else ""
        self._learn(ticket, response, code)
        self._metrics.api_calls.labels(operation, response.status_code).inc()
        self._metrics.api_seconds.labels(operation).observe(self._clock.monotonic() - started)
        return Answer(response.status_code, code, body)

    def import_body(self, ticket: Ticket, path: str, body: Iterable[bytes], size: int) -> Answer:
        """PUT an import's body as a stream of known size."""
        headers = {"Content-Type": "application/json", "Content-Length": str(size)}
        return self.call(ticket, "PUT", path, content=body, headers=headers)

    def _delay(self, operation: Operation, *, spare: bool) -> float:
        now = self._clock.monotonic()
        if now < self._blocked_until:
            return self._blocked_until - now
        if self._scopes[operation] is None:
            return 0.0
        tier = self._tier(operation)
        return max(tier.delay(now), tier.pace(now, spare=spare) if operation in _SPREAD else 0.0)

    def _tier(self, operation: Operation) -> Tier:
        scope = _FLAT if self._flat else self._scopes[operation] or "unlimited"
        return self._tiers.setdefault(scope, Tier(share=self._share))

    def _no_answer(self, ticket: Ticket, what: str, *, sent: bool) -> Answer:
        with self._lock:
            if sent:
                ticket.tier.answered(ticket.number, self._clock.monotonic())
            else:
                ticket.tier.cancelled(ticket.number)
        self._metrics.api_calls.labels(ticket.operation, NO_ANSWER).inc()
        return Answer(NO_ANSWER, what, None, sent=sent)

    def _learn(self, ticket: Ticket, response: httpx.Response, code: str) -> None:
        operation = ticket.operation
        names = {name.lower(): value for name, value in response.headers.items()}
        quota = read_headers(names, self._server_now(names))
        rejected = response.status_code == httpx.codes.TOO_MANY_REQUESTS and not too_many_open(code)
        with self._lock:
            now = self._clock.monotonic()
            self._scopes[operation] = self._scope(operation, quota, response, rejected=rejected)
            if response.is_success:
                self._used_up_wait = _FIRST_WAIT
            elif code == USED_UP:
                self._used_up(now)
            tier = self._tier(operation)
            if tier is ticket.tier:
                tier.answered(ticket.number, now, quota, rejected=rejected)
            else:  # it was counted elsewhere
                ticket.tier.cancelled(ticket.number)
                tier.answered(tier.made(ticket.made), now, quota, rejected=rejected)
            self._show(operation, quota, rejected=rejected)

    def _show(self, operation: Operation, quota: QuotaHeaders, *, rejected: bool) -> None:
        scope = self._scopes[operation]
        if scope is None:
            return
        label = scope if scope in _KNOWN_TIERS else "other"  # the name comes from outside; a label must not
        self._metrics.quota_used.labels(label).inc()
        self._metrics.quota_rejected.labels(label).inc(int(rejected))
        if quota.limit is not None:
            self._metrics.quota_limit.labels(label).set(quota.limit)
        if quota.remaining is not None:
            self._metrics.quota_remaining.labels(label).set(quota.remaining)

    def _used_up(self, now: float) -> None:
        """The flat scheme's calls are used up: wait, longer each time, and make fewer afterwards."""
        if now >= self._blocked_until:
            for tier in self._tiers.values():
                tier.refused(now)
            self._blocked_until = now + self._used_up_wait
            self._used_up_wait = min(_HOUR, 2 * self._used_up_wait)

    def _scope(
        self, operation: Operation, quota: QuotaHeaders, response: httpx.Response, *, rejected: bool
    ) -> str | None:
        """Which tier counts an operation, by its latest answer."""
        known = self._scopes[operation]
        if quota.limit is not None:
            self._tiered, self._flat = True, False
            return quota.scope or known or _TIERS[operation]
        if rejected:
            return known or _TIERS[operation]
        if not response.is_success:
            return known
        # Where others are counted and this one's answer says nothing of it, it is one of the unlimited calls.
        if self._tiered:
            return None
        self._flat = True
        return known

    def _server_now(self, headers: Mapping[str, str]) -> float:
        try:
            return parsedate_to_datetime(headers["date"]).timestamp()
        except (KeyError, ValueError):
            return self._clock.now().timestamp()


def path_value(value: str) -> str:
    """A value as one segment of a path: everything that is not plain is percent-encoded, `/` and `+` too."""
    return quote(value, safe="")


def _passes(answer: Answer) -> bool:
    """Whether a failure may be over in a moment. A time-out has taken two minutes already."""
    if answer.status == NO_ANSWER:
        return answer.sent and "Timeout" not in answer.code
    return answer.status == httpx.codes.TOO_MANY_REQUESTS or httpx.codes.is_server_error(answer.status)


def _decoded(content: bytes) -> Any:  # noqa: ANN401 - any JSON
    try:
        return msgspec.json.decode(content) if content else None
    except msgspec.DecodeError:
        return None
