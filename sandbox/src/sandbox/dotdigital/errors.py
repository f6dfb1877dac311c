"""Answers: JSON bodies, and the two shapes of refusal that v2 and v3 have."""

from collections.abc import Iterable
from typing import Any

import httpx
import msgspec

JSON = {"Content-Type": "application/json; charset=utf-8"}


class RefusedCall(Exception):  # noqa: N818 - it is an answer, not a fault
    """A call that is answered with something other than success.

    Args:
        response: the answer.
    """

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        super().__init__(response.status_code)


def reply(status: int, body: Any = None) -> httpx.Response:  # noqa: ANN401 - any JSON
    """An answer with a JSON body, or with none."""
    return httpx.Response(status) if body is None else raw_reply(status, msgspec.json.encode(body))


def raw_reply(status: int, body: bytes) -> httpx.Response:
    """An answer with a body that is JSON already."""
    return httpx.Response(status, headers=JSON, content=body)


def text_reply(status: int, text: str) -> httpx.Response:
    """An answer in plain text."""
    return httpx.Response(status, text=text)


def v3_refusal(
    status: int, code: str, description: str, details: Iterable[tuple[str, str]] = ()
) -> RefusedCall:
    """The v3 services' envelope.

    Args:
        status: HTTP status.
        code: `service:word`.
        description: for people.
        details: (item, description) pairs.
    """
    body: dict[str, Any] = {"errorCode": code, "description": description}
    listed = [{"item": item, "description": text} for item, text in details]
    if listed:
        body["details"] = listed
    return RefusedCall(reply(status, body))


def v2_refusal(status: int, code: str, text: str | None = None) -> RefusedCall:
    """v2's body: one message that ends in (or is) an `ERROR_` word."""
    return RefusedCall(reply(status, {"message": f"{text}. {code}" if text else f"Error: {code}"}))


def not_found(service: str, what: str, item: str, found_by: str = "Not found") -> RefusedCall:
    """404 of a v3 service: `contactNotFound`, `collectionNotFound`, `recordNotFound`."""
    texts = {
        "contactNotFound": "The following contacts could not be found",
        "collectionNotFound": "The collection could not be found",
        "recordNotFound": "The Insight data record could not be found",
    }
    return v3_refusal(404, f"{service}:{what}", texts[what], [(item, found_by)])


def wrong_value(service: str, path: str, text: str = "") -> RefusedCall:
    """400 for a value that is of the right kind and yet not allowed.

    Args:
        service: `contacts` or `insightData`.
        path: where, with indexes: `contacts[3].consentRecords[0].dateTimeConsented`.
        text: why.
    """
    return v3_refusal(
        400, f"{service}:invalidValue", f"value for '{path}' invalid" + (f": {text}" if text else "")
    )
