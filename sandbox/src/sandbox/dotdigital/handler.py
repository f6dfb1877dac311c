"""The sandbox Dotdigital as a function from request to response."""

import random
import threading
from base64 import b64decode
from binascii import Error
from dataclasses import dataclass

import httpx

from estarsync_core.clock import Clock
from sandbox.asgi import ConnectionDropped
from sandbox.dotdigital.account import Account
from sandbox.dotdigital.call import Call
from sandbox.dotdigital.control import PREFIX, answer_control
from sandbox.dotdigital.errors import RefusedCall, reply, text_reply, v3_refusal
from sandbox.dotdigital.faults import AFTER, BEFORE, STATUSES, Fault
from sandbox.dotdigital.ledger import CallLine, Violation
from sandbox.dotdigital.limits import Verdict
from sandbox.dotdigital.options import Options, Tier
from sandbox.dotdigital.routes import Route, find_route

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_NO_BODY = frozenset({"/v2/accounts/empty-recycle-bin", "/insightData/v3/collections/{collectionName}"})
_DISCOVERY = "/v2/account-info"
_UNROUTED = "(unknown)"
_V2_DENIED = "Authorization has been denied for this request."


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A request, and what it asks for."""

    request: httpx.Request
    route: Route | None
    params: dict[str, str]
    known: bool  # the path exists, with this or another method
    tier: Tier
    now: float

    @property
    def template(self) -> str:
        return _UNROUTED if self.route is None else self.route.template

    @property
    def name(self) -> str:
        return f"{self.request.method} {self.template}"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What goes back, and how."""

    response: httpx.Response | None  # None: the connection is dropped
    wait: float = 0.0


class DotdigitalSandbox:
    """One simulated account.

    Args:
        options: who it is and how it behaves.
        clock: where time comes from; only slow answers sleep on it.
        rng: decides everything that is random, so a seed repeats a run.
    """

    def __init__(self, options: Options, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._lock = threading.Lock()
        self.account = Account(options, rng)

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer a request; safe to call from several threads.

        Raises:
            ConnectionDropped: the client gets no answer.
        """
        request.read()
        with self._lock:
            if request.url.path.startswith(PREFIX):
                return self._control(request)
            outcome = self._answer(request)
        if outcome.wait:
            self._clock.sleep(outcome.wait)
        if outcome.response is None:
            raise ConnectionDropped
        return outcome.response

    def close(self) -> None:
        """Close the ledger's file."""
        self.account.ledger.close()

    def _control(self, request: httpx.Request) -> httpx.Response:
        self._advance()
        replaced = answer_control(self.account, request, self._clock.now().timestamp())
        if isinstance(replaced, Options):
            self.account.ledger.close()
            self.account = Account(replaced, self._rng)
            return reply(200, {})
        return replaced

    def _advance(self) -> float:
        now = self._clock.now().timestamp()
        self.account.jobs.advance(now, self.account.options.reports_kept)
        return now

    def _answer(self, request: httpx.Request) -> _Outcome:
        now = self._advance()
        account = self.account
        route, params, known = find_route(request.method, request.url.raw_path)
        arrival = _Arrival(request, route, params, known, self._tier(route), now)
        early = account.faults.take(BEFORE | STATUSES.keys(), request.method, arrival.template, after=False)
        if early is not None and early.kind == "drop_before":
            self._note(arrival, 0, None, lost=True)
            return _Outcome(None)
        quota = account.limits.look(arrival.tier, now, account.options.limits)
        try:
            self._let_in(arrival, early)
            quota = self._take_quota(arrival)
            response = self._carry_out(arrival, early)
        except RefusedCall as refusal:
            response = refusal.response
        return self._finish(arrival, quota, response)

    def _tier(self, route: Route | None) -> Tier:
        if route is None:
            return "high"
        return self.account.options.tiers.get(route.name, route.tier)

    def _let_in(self, arrival: _Arrival, early: Fault | None) -> None:
        options, request = self.account.options, arrival.request
        unauthorized = early is not None and early.kind == "unauthorized"
        if unauthorized or not _is_authorized(request, options):
            v2 = request.url.path.startswith("/v2/")
            response = reply(401, {"message": _V2_DENIED}) if v2 else httpx.Response(401)
            response.headers["WWW-Authenticate"] = 'Basic realm="Dotdigital"'
            raise RefusedCall(response)
        if request.headers.get("Host", "") in options.wrong_hosts and arrival.template != _DISCOVERY:
            raise RefusedCall(text_reply(403, "Forbidden: Access is denied"))
        if early is not None and early.kind == "quota_storm":
            self.account.faults.storm_until = arrival.now + early.seconds

    def _take_quota(self, arrival: _Arrival) -> Verdict:
        account = self.account
        limits = account.options.limits
        storm = arrival.now < account.faults.storm_until
        if storm:
            quota = account.limits.look(arrival.tier, arrival.now, limits, allowed=False)
        else:
            quota = account.limits.take(arrival.tier, arrival.now, limits)
        if quota.allowed:
            return quota
        if limits.scheme == "flat":
            text = "Your account has generated excess API activity. ERROR_APIUSAGE_EXCEEDED"
            raise RefusedCall(reply(400, {"message": text}))
        detail = "a fault's storm" if storm else f"quota {arrival.tier}"
        account.ledger.violation(Violation(arrival.now, "call_answered_429", arrival.name, detail))
        response = httpx.Response(429)
        if limits.body == "text":
            response = text_reply(429, "Too Many Requests")
        elif limits.body == "json":
            response = reply(429, {"errorCode": "server:tooManyRequests", "description": "Too many requests"})
        response.headers.update(quota.headers)
        raise RefusedCall(response)

    def _carry_out(self, arrival: _Arrival, early: Fault | None) -> httpx.Response:
        request, route = arrival.request, arrival.route
        if early is not None and early.kind in STATUSES:
            return _failed(STATUSES[early.kind])
        if route is None:
            return httpx.Response(405 if arrival.known else 404)
        if len(request.content) > self.account.options.max_body_bytes:
            return httpx.Response(413)
        if request.method in _WITH_BODY and route.template not in _NO_BODY:
            kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise v3_refusal(415, "server:unsupportedMediaType", "Content-Type is application/json")
        call = Call(self.account, request.url, route.template, arrival.params, request.content, arrival.now)
        return route.answer(call)

    def _finish(self, arrival: _Arrival, quota: Verdict, response: httpx.Response) -> _Outcome:
        faults, method = self.account.faults, arrival.request.method
        import_id = _import_id(response)
        late = faults.take(STATUSES, method, arrival.template, after=True) if response.is_success else None
        if late is not None:
            response = _failed(STATUSES[late.kind])
        else:
            late = faults.take(AFTER, method, arrival.template) if response.is_success else None
        for name, value in quota.headers.items():
            response.headers.setdefault(name, value)
        lost = late is not None and late.kind == "drop_after"
        left = response.headers.get("X-RateLimit-Remaining")
        remaining = None if left is None else int(left)
        self._note(arrival, response.status_code, remaining, lost=lost, import_id=import_id)
        wait = late.seconds if late is not None and late.kind == "slow" else 0.0
        return _Outcome(None if lost else response, wait)

    def _note(
        self, arrival: _Arrival, status: int, remaining: int | None, *, lost: bool, import_id: str = ""
    ) -> None:
        method, template, tier = arrival.request.method, arrival.template, arrival.tier
        word = "lost" if lost else "sent"
        line = CallLine(arrival.now, method, template, tier, status, remaining, word, import_id)
        self.account.ledger.call(line)


def _is_authorized(request: httpx.Request, options: Options) -> bool:
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    try:
        given = b64decode(encoded, validate=True).decode()
    except (Error, UnicodeDecodeError):
        return False
    return scheme.lower() == "basic" and given == f"{options.username}:{options.password}"


def _import_id(response: httpx.Response) -> str:
    """The id of the import that an answer has accepted."""
    if response.status_code != httpx.codes.ACCEPTED or not response.content:
        return ""
    found = response.json()
    return str(found.get("importId", "")) if isinstance(found, dict) else ""


def _failed(status: int) -> httpx.Response:
    return text_reply(status, httpx.codes.get_reason_phrase(status))
