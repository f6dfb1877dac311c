"""Getting a product feed: the newest whole file of a folder, or a download. Never half a file."""

import glob
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from estarsync_core.clock import Clock
from estarsync_core.errors import ConfigurationError, RetryLater
from estarsync_core.profile import ProductFeed
from estarsync_runtime.estar.connect import read_secret

_CHUNK = 65_536
_REDIRECTS = 3


@dataclass(frozen=True, slots=True)
class FeedFile:
    """A whole file on this machine.

    Attributes:
        path: where it is.
        name: what the shop calls it; its ending says whether it is packed.
        stamp: differs when the content may.
    """

    path: Path
    name: str
    stamp: str


def newest(feed: ProductFeed, clock: Clock) -> FeedFile:
    """The newest file that is whole.

    A file that is still being written is passed over: it has no marker beside it yet, or it changed a moment ago.

    Raises:
        RetryLater: there is none, or it is too large.
    """
    found: list[tuple[float, str, int, Path]] = []
    for name in glob.glob(feed.location):  # noqa: PTH207 - a whole pattern, folders included
        path = Path(name)
        try:
            status = path.stat()
            whole = (
                path.with_name(path.name + feed.done).exists()
                if feed.done
                else clock.now().timestamp() - status.st_mtime >= feed.settle_seconds
            )
        except FileNotFoundError:  # it went while we looked
            continue
        if path.is_file() and whole and not (feed.done and name.endswith(feed.done)):
            found.append((status.st_mtime, name, status.st_size, path))
    if not found:
        raise RetryLater(f"no whole file at {feed.location} yet: is the shop still writing it?")
    changed, name, size, path = max(found)
    _check_size(feed, size)
    return FeedFile(path, name, f"{name} {changed} {size}")


def download(
    feed: ProductFeed,
    http: httpx.Client,
    target: Path,
    last: FeedFile | None,
    clock: Clock,
    beat: Callable[[], None],
) -> FeedFile:
    """The file behind the URL, or the last one where the site says that it is the same; blocks.

    Redirects are followed a few times, within the host and never away from https.

    Args:
        feed: what to get.
        http: its transport may be a test's.
        target: where the file goes.
        last: what was downloaded last, if it is still there.
        clock: for the time that a whole download may take.
        beat: called while data comes.

    Raises:
        RetryLater: the site is away, too slow, or answers with something else than a feed.
        ConfigurationError: the credentials are nowhere to be found, or the URL leads to another host.
    """
    headers = {"Accept-Encoding": "identity"}
    if feed.authorization is not None:
        headers["Authorization"] = _authorization(feed)
    if last is not None:
        headers["If-None-Match"] = last.stamp
    url = feed.location
    deadline = clock.monotonic() + feed.timeout_seconds
    try:
        for _ in range(_REDIRECTS + 1):
            with http.stream("GET", url, headers=headers, timeout=60.0, follow_redirects=False) as answer:
                if answer.has_redirect_location:
                    url = _elsewhere(feed, url, answer)
                    continue
                if answer.status_code == HTTPStatus.NOT_MODIFIED and last is not None:
                    return last
                _check_answer(answer)
                _write(answer, feed, target, deadline, clock, beat)
                return FeedFile(target, urlsplit(url).path, answer.headers.get("etag", ""))
    except httpx.HTTPError as error:
        raise RetryLater(f"can't get the product feed: {type(error).__name__}") from error
    raise RetryLater("can't get the product feed: it redirects for ever")


def _authorization(feed: ProductFeed) -> str:
    try:
        value = read_secret(feed.authorization) if feed.authorization else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"products.feed.authorization: can't be read: {error}"]) from error
    if not value:
        raise ConfigurationError(["products.feed.authorization: there is nothing where the profile points"])
    return value


def _elsewhere(feed: ProductFeed, url: str, answer: httpx.Response) -> str:
    there = urljoin(url, answer.headers["location"])
    old, new = urlsplit(url), urlsplit(there)
    if (new.scheme, new.netloc) != (old.scheme, old.netloc):
        problem = (
            f"products.feed.location: {feed.location} leads to {new.scheme}://{new.hostname}: give that URL"
        )
        raise ConfigurationError([problem])
    return there


def _check_answer(answer: httpx.Response) -> None:
    if answer.status_code != HTTPStatus.OK:
        raise RetryLater(f"the product feed's site answers HTTP {answer.status_code}")
    if "html" in answer.headers.get("content-type", "").lower():
        raise RetryLater("the product feed's site answers with a web page (maintenance, or a firewall)")


def _write(
    answer: httpx.Response,
    feed: ProductFeed,
    target: Path,
    deadline: float,
    clock: Clock,
    beat: Callable[[], None],
) -> None:
    size = 0
    with target.open("wb") as file:
        for chunk in answer.iter_bytes(_CHUNK):
            size += len(chunk)
            _check_size(feed, size)
            if clock.monotonic() > deadline:
                raise RetryLater(f"the product feed is not here after {feed.timeout_seconds:g} s")
            file.write(chunk)
            beat()


def _check_size(feed: ProductFeed, size: int) -> None:
    if size > feed.max_bytes:
        raise RetryLater(f"the product feed is larger than products.feed.max_bytes ({feed.max_bytes})")
