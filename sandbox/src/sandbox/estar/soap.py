"""The shop's SOAP API as one function from request to response."""

import random
from collections import Counter
from dataclasses import dataclass

import httpx

from estarsync_core.clock import Clock
from estarsync_core.profile import TenantProfile
from sandbox.asgi import ConnectionDropped
from sandbox.estar import wire
from sandbox.estar.contract import Action, Contract
from sandbox.estar.control import Control
from sandbox.estar.faults import FaultPlan
from sandbox.estar.operations import Operations
from sandbox.estar.state import Shop
from sandbox.estar.webhooks import Target
from sandbox.estar.wire import Arguments, Binding, Fault

BAD_CREDENTIALS, BAD_TOKEN, BUSY = 1, 2, 3
"""Codes of refusals. The site's own are not published."""


class _Refused(Exception):  # noqa: N818 - an answer, with HTTP 200
    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call, and how long a token lasts: seconds or calls, whichever ends first."""

    username: str = "sandbox"
    password: str = "sandbox"  # noqa: S105 - made up
    token_seconds: float | None = None
    token_calls: int | None = None


@dataclass(slots=True)
class _Token:
    until: float
    calls: float


class ShopSandbox:
    """The twin of an eStar site. `handle` may be called from many threads at once.

    Args:
        shop: what it sells and knows.
        clock: dates edits, ages tokens, holds up slow calls.
        access: credentials and the life of a token.
        target: where notifications go; None keeps them for `Events.Retrieve` alone.
        profile: whose names the site goes by; None for the default profile's.
    """

    def __init__(
        self,
        shop: Shop,
        clock: Clock,
        access: Access | None = None,
        target: Target | None = None,
        profile: TenantProfile | None = None,
    ) -> None:
        self.shop = shop
        self.faults = FaultPlan()
        self.calls: Counter[str] = Counter()
        self._clock = clock
        self._access = access or Access()
        self._contract = Contract(profile)
        self._tokens: dict[str, _Token] = {}
        self._token_dice = random.Random(0)
        self._control = Control(shop, clock, self.faults, self.calls, self._contract, target)
        self._operations = Operations(shop, self.faults, self._contract)

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; its body must have been read.

        Raises:
            ConnectionDropped: where a fault says so.
        """
        if request.url.path.startswith("/sandbox"):
            return self._control.handle(request)
        place = self._contract.find(request.url.path)
        if place is None:
            return _page(404, "The resource cannot be found.")
        actions, named = place
        if request.method == "GET" and named is None:
            return _page(200, f"Operations: {', '.join(sorted(actions))}")
        binding = Binding.PLAIN
        try:
            binding = wire.binding_of(request)
            if binding is Binding.PLAIN:
                action = _named(actions, named)
                given = wire.read_plain(request, action)
            else:
                action, given = wire.read_soap(request, binding, actions)
            return self._play(binding, action, given)
        except Fault as problem:
            return wire.fault(binding, problem)

    def _play(self, binding: Binding, action: Action, given: Arguments) -> httpx.Response:
        with self.shop.lock:
            self.calls[action.name] += 1
            outcome, delay = self.faults.draw(action.name)
        if delay:
            self._clock.sleep(delay)  # without the lock: others are not held up
        if outcome == "drop":
            raise ConnectionDropped
        if outcome == "html":
            return _page(200, "Please wait while your request is being checked.")
        if outcome == "error":
            raise Fault("Server was unable to process request. ---> Timeout expired.", "Server")
        if outcome == "refuse":
            inside = wire.refusal_inside(action, BUSY, "The call failed. Call Identifier: 00000000-sandbox")
        else:
            inside = self._inside(action, given)
        return wire.answer(binding, action, inside)

    def _inside(self, action: Action, given: Arguments) -> str:
        try:
            with self.shop.lock:
                if action.token_argument is None:
                    return self._authenticate(action, given)
                self._check(given.token)
                return self._operations.answer(action, given)
        except _Refused as refused:
            return wire.refusal_inside(action, refused.code, str(refused))

    def _authenticate(self, action: Action, given: Arguments) -> str:
        wanted = (self._access.username, self._access.password)
        if (given.texts.get("username"), given.texts.get("password")) != wanted:
            raise _Refused(BAD_CREDENTIALS, "The user name or password is incorrect.")
        token = f"{self._token_dice.getrandbits(128):032x}"
        seconds, calls = self._access.token_seconds, self._access.token_calls
        self._tokens[token] = _Token(
            until=float("inf") if seconds is None else self._clock.monotonic() + seconds,
            calls=float("inf") if calls is None else calls,
        )
        *containers, tag = action.operation.result.split("/")
        if not containers:
            return wire.data_inside(action, token, tag)
        return wire.rows_inside(action, [f"<{tag}>{token}</{tag}>"])

    def _check(self, given: str | None) -> None:
        token = self._tokens.get(given or "")
        if token is None or token.calls <= 0 or self._clock.monotonic() >= token.until:
            raise _Refused(BAD_TOKEN, "The authentication token is not valid or has expired.")
        token.calls -= 1


def _named(actions: dict[str, Action], name: str | None) -> Action:
    if name not in actions:
        raise Fault(f"Request format is unrecognized for URL unexpectedly ending in '/{name}'.")
    return actions[name]


def _page(status: int, text: str) -> httpx.Response:
    return httpx.Response(status, html=f"<!DOCTYPE html><html><body><p>{text}</p></body></html>")
