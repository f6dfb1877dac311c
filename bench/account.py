"""`python -m bench.account`: an account of any size whose contacts are read back from pages that lie ready on disk.

The sandbox twin holds each contact in memory, and would need gigabytes for a million. This one answers only what a
read-back of contacts asks for, counts it as the sandbox does, and takes as long for a page as it is told.
"""

import threading
from pathlib import Path
from typing import Annotated

import httpx
import msgspec
import typer

from estarsync_core.clock import Clock
from estarsync_core.dotdigital.fields import DATA_FIELDS
from estarsync_runtime.clock import SystemClock
from sandbox.asgi import asgi, serving
from sandbox.dotdigital.limits import RateLimits
from sandbox.dotdigital.options import Limits

LIST_ID = 1000
_FIXED = {
    "/v2/data-fields": [{"name": name, "type": kind} for name, kind in DATA_FIELDS.items()],
    "/insightData/v3/collections": [
        {"collectionName": "orders", "collectionType": "orders", "collectionScope": "contact"},
        {"collectionName": "catalog_estar", "collectionType": "catalog", "collectionScope": "account"},
    ],
}
_NOTHING: dict[str, object] = {"_items": [], "_links": {}}


class Account:
    """The handler.

    Args:
        pages: a folder with a file for each page, named by its number, as it is answered.
        low: read-back pages a minute; the first minute begins with the first page.
        seconds: a page takes.
        clock: the time.
    """

    def __init__(self, pages: Path, low: int, seconds: float, clock: Clock) -> None:
        self._pages = pages
        self._limits = Limits(low=low)
        self._seconds = seconds
        self._clock = clock
        self._rates = RateLimits()
        self._turn = threading.Lock()
        self._began: float | None = None
        self.rejected = 0

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        path = request.url.path
        if path == "/v2/address-books":
            first = request.url.params.get("skip", "0") == "0"
            return _json([{"id": LIST_ID, "name": "eStar Contacts"}] if first else [])
        if path in _FIXED:
            return _json(_FIXED[path])
        if path == "/bench/rejected":
            return _json(self.rejected)
        with self._turn:
            now = self._clock.monotonic()
            self._began = now if self._began is None else self._began
            verdict = self._rates.take("low", now - self._began, self._limits)
            self.rejected += not verdict.allowed
        headers = {**verdict.headers, "Date": "Thu, 01 Jan 1970 00:00:00 GMT"}
        headers["X-RateLimit-Reset"] = _to_go(now - self._began)
        if not verdict.allowed:
            return httpx.Response(429, headers=headers)
        if path != "/contacts/v3":
            return _json(_NOTHING, headers)
        self._clock.sleep(self._seconds)
        page = self._pages / request.url.params.get("marker", "0")
        return httpx.Response(
            200, content=page.read_bytes(), headers={**headers, "Content-Type": "application/json"}
        )


def _to_go(seconds: float) -> str:
    """Until the minute is over; the twin's other form of the header, as the clock is not the day's."""
    return str(60 - int(seconds % 60))


def _json(body: object, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(
        200,
        content=msgspec.json.encode(body),
        headers={**(headers or {}), "Content-Type": "application/json"},
    )


def main(
    pages: Annotated[Path, typer.Option()],
    low: Annotated[int, typer.Option()],
    seconds: Annotated[float, typer.Option()],
) -> None:
    """Serve until killed; the URL is printed."""
    account = Account(pages, low, seconds, SystemClock())
    with serving(asgi(account.handle, parallel=True)) as url:
        typer.echo(url)
        typer.get_text_stream("stdin").read()


if __name__ == "__main__":
    typer.run(main)
