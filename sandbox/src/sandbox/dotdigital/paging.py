"""Seek paging: `limit` and `marker` in, `_links` and `_items` out."""

import random
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx

from sandbox.dotdigital.errors import RefusedCall, v3_refusal
from sandbox.dotdigital.options import Options

Item = TypeVar("Item")
MAX_LIMIT = 5000


def page(
    url: httpx.URL,
    service: str,
    rows: Callable[[int], Iterator[tuple[int, Item]]],
    show: Callable[[Item], Any],
    *,
    largest: int,
    options: Options,
    rng: random.Random,
) -> dict[str, Any]:
    """One page.

    Args:
        url: the call's.
        service: whose refusals to use.
        rows: the rows beyond a number, ascending, filtered already.
        show: a row's JSON.
        largest: no page is longer, whatever `limit` says.
        options: default and short pages.
        rng: where a short page ends.

    Raises:
        RefusedCall: 400 for a limit or a marker that isn't one.
    """
    size = min(_limit(url, service, options), largest)
    if options.short_pages:
        size = rng.randint((size + 1) // 2, size)
    start = _start(url, service)
    items: list[Any] = []
    last, more = start, False
    for number, item in rows(start):
        if len(items) == size:
            more = True
            break
        items.append(show(item))
        last = number
    links = {"self": _link(url, start), "first": _link(url, 0)}
    if more:
        links["next"] = _link(url, last)
    return {"_links": links, "_items": items}


def _limit(url: httpx.URL, service: str, options: Options) -> int:
    text = url.params.get("limit")
    if text is None:
        return options.default_page
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_LIMIT):
        raise _refuse(service, "limit", text)
    return int(text)


def _start(url: httpx.URL, service: str) -> int:
    text = url.params.get("marker")
    if text is None:
        return 0
    try:
        decoded = b64decode(text, validate=True).decode("ascii")
    except (Error, UnicodeDecodeError, ValueError) as error:
        raise _refuse(service, "marker", text) from error
    if not decoded.isdigit():
        raise _refuse(service, "marker", text)
    return int(decoded)


def _refuse(service: str, name: str, text: str) -> RefusedCall:
    code = f"{service}:invalidFilter" if service == "contacts" else f"{service}:invalidValue"
    return v3_refusal(400, code, f"The {name} value '{text}' is invalid")


def _link(url: httpx.URL, after: int) -> dict[str, str]:
    marker = b64encode(str(after).encode()).decode()
    return {"marker": marker, "link": str(url.copy_set_param("marker", marker))}
