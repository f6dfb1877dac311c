"""Calls to an eStar site over SOAP: one token, bounded retries, and nothing of httpx's or lxml's goes past here."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from io import BytesIO

import httpx
import structlog

from estarsync_core.clock import Clock
from estarsync_core.errors import ConfigurationError, RetryLater
from estarsync_core.estar.content import RawValue
from estarsync_core.profile import Operation, TenantProfile
from estarsync_runtime.estar.decoder import Answer, Decoder
from estarsync_runtime.estar.envelope import Argument, request
from estarsync_runtime.metrics import Metrics

_PAUSES = (0.5, 2.0)  # seconds at most before the second and the third try
_LONGEST_PAUSE = 10.0  # what the site asks for beyond this is left to the caller
_CHUNK = 65_536
_log = structlog.get_logger()
_NOT_HERE = {
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.GONE,
}


class TooSlow(RetryLater):
    """No whole answer in time: to ask for less is better than to ask again."""


class Refused(RetryLater):
    """The shop answered that this call failed; another call may well succeed."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """An API user of the site; prints without either."""

    username: str = field(repr=False)
    password: str = field(repr=False)


class EstarClient:
    """The site's API: one call at a time, with the profile's pause between two. Not safe to use from several threads.

    Args:
        http: its transport may be a sandbox's; it is not closed here.
        profile: the site's names, lists, time-outs and limits.
        base_url: the primary site's URL; satellite sites have no API.
        credentials: of an API user with the right to read.
        clock: for pauses between two tries, and for the time that a whole answer may take.
        rng: spreads the pauses.
        metrics: where calls are counted.
        before_call: called before each request, such as a heartbeat.
    """

    def __init__(
        self,
        http: httpx.Client,
        profile: TenantProfile,
        base_url: str,
        credentials: Credentials,
        *,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        before_call: Callable[[], None] | None = None,
    ) -> None:
        self._http = http
        self._soap = profile.soap
        self._base_url = base_url.rstrip("/")
        self._credentials = credentials
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._before_call = before_call
        self._decoder = Decoder(profile.records)
        self._token: str | None = None
        self._has_answered = False
        self._free_from = clock.monotonic()

    def authenticate(self) -> None:
        """Get a token; blocks.

        Raises:
            ConfigurationError: the site does not accept the credentials, or is no eStar site.
            RetryLater: the site is away or busy.
        """
        operation = self._soap.operations.authenticate
        who = {"username": self._credentials.username, "password": self._credentials.password}
        answer = self._retried(operation, None, who)
        token = next((row for row in answer.rows if isinstance(row, str) and row.strip()), None)
        if token is not None:
            self._token = token.strip()
            return
        if answer.failure is not None and not answer.failure.about_access:
            raise Refused(f"{operation.operation} failed: {answer.failure}")
        problem = f"{self._base_url} does not accept ESTAR_USERNAME and ESTAR_PASSWORD: check both, and that ESTAR_BASE_URL is the right site"
        raise ConfigurationError([problem])

    def call(self, operation: Operation, **arguments: Argument) -> list[RawValue]:
        """The rows that an operation answers with; blocks, at most a few times the profile's time-out.

        A token that the site no longer knows is replaced once.

        Args:
            operation: from the profile.
            arguments: by our word for each.

        Raises:
            TooSlow: no whole answer within the profile's time-out or size.
            Refused: the site answered that the call failed.
            RetryLater: the site is away, or its answer can't be read.
            ConfigurationError: the site does not accept the credentials, or is no eStar site.
        """
        renewed = self._token is None
        if self._token is None:
            self.authenticate()
        answer = self._retried(operation, self._token, arguments)
        if answer.failure is not None and answer.failure.about_access and not renewed:
            _log.info("estar_token_renewed")
            self.authenticate()
            answer = self._retried(operation, self._token, arguments)
        if answer.failure is not None:
            raise Refused(f"{operation.operation} failed: {answer.failure}")
        return answer.rows

    def _retried(self, operation: Operation, token: str | None, arguments: Mapping[str, Argument]) -> Answer:
        """One answer, after a few tries where the trouble may pass by itself."""
        for pause in _PAUSES:
            wait = 0.0
            try:
                answer = self._send(operation, token, arguments)
                if answer.failure is None or answer.failure.about_access:
                    return answer
            except TooSlow:
                raise
            except RetryLater as error:
                wait = error.after or 0.0
                if wait > _LONGEST_PAUSE:
                    raise
            self._clock.sleep(max(wait, self._rng.uniform(0, pause)))
        return self._send(operation, token, arguments)

    def _send(self, operation: Operation, token: str | None, arguments: Mapping[str, Argument]) -> Answer:
        if self._before_call is not None:
            self._before_call()
        started = self._clock.monotonic()
        if started < self._free_from:
            self._clock.sleep(self._free_from - started)
            started = self._clock.monotonic()
        outcome = "failed"
        try:
            answer = self._exchange(operation, token, arguments)
            outcome = "answered" if answer.failure is None else "refused"
        finally:
            name = f"{operation.service}.{operation.operation}"
            self._metrics.estar_calls.labels(name, outcome).inc()
            ended = self._clock.monotonic()
            self._free_from = ended + self._soap.pause_seconds
            self._metrics.estar_seconds.labels(name).observe(ended - started)
        return answer

    def _exchange(self, operation: Operation, token: str | None, arguments: Mapping[str, Argument]) -> Answer:
        first = None if token is None else (self._soap.token_argument, token)
        body, headers = request(self._soap.version, operation, first, arguments)
        url = self._base_url + self._soap.path.format(service=operation.service)
        deadline = self._clock.monotonic() + self._soap.timeout_seconds
        try:
            with self._http.stream(
                "POST",
                url,
                content=body,
                headers=headers,
                timeout=self._soap.timeout_seconds,
                follow_redirects=False,
            ) as response:
                content = self._read(response, operation, deadline)
        except httpx.ConnectTimeout as error:
            raise RetryLater(f"can't reach {self._base_url}: no connection in time") from error
        except httpx.TimeoutException as error:
            raise TooSlow(f"{operation.operation}: no answer in {self._soap.timeout_seconds:g} s") from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise ConfigurationError([f"ESTAR_BASE_URL: {self._base_url!r} is no http(s) URL"]) from error
        except httpx.HTTPError as error:
            raise RetryLater(f"can't reach {self._base_url}: {type(error).__name__}") from error
        return self._understood(operation, response, content)

    def _read(self, response: httpx.Response, operation: Operation, deadline: float) -> bytes:
        content = BytesIO()
        for chunk in response.iter_bytes(_CHUNK):
            content.write(chunk)
            if content.tell() > self._soap.max_response_bytes:
                raise TooSlow(
                    f"{operation.operation}: the answer is larger than {self._soap.max_response_bytes} bytes"
                )
            if self._clock.monotonic() > deadline:
                raise TooSlow(f"{operation.operation}: no whole answer in {self._soap.timeout_seconds:g} s")
        return content.getvalue()  # no copy: an answer may be large

    def _understood(self, operation: Operation, response: httpx.Response, content: bytes) -> Answer:
        status = response.status_code
        kind = response.headers.get("content-type", "").lower()
        if (response.has_redirect_location or status in _NOT_HERE) and not self._has_answered:
            raise ConfigurationError(
                [
                    f"ESTAR_BASE_URL: {self._base_url} has no eStar API (HTTP {status}): give the primary site's URL"
                ]
            )
        page = "html" in kind or content[:_CHUNK].lstrip()[:9].lower().startswith((b"<!doctype", b"<html"))
        if status not in {HTTPStatus.OK, HTTPStatus.INTERNAL_SERVER_ERROR} or (
            status != HTTPStatus.OK and page
        ):
            raise RetryLater(f"{operation.operation}: the site answers HTTP {status}", _retry_after(response))
        if page:
            raise RetryLater(
                f"{operation.operation}: the site answers with a web page instead of data "
                "(maintenance, or a firewall in front of it)"
            )
        answer = self._decoder.answer(content, response.charset_encoding, operation.result.split("/"))
        if status != HTTPStatus.OK and answer.failure is None:
            raise RetryLater(f"{operation.operation}: the site answers HTTP {status}")
        self._has_answered = True
        return answer


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):  # a date is as good as nothing: the site's clock is not ours
        return None
