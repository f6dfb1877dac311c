"""The shop's notifications: is a body really the shop's, what does it say, and what of it may be kept.

A notification only says that something happened; what counts is what the shop answers when the order is read
again. So nothing but ids is kept of its message: whatever else the shop may put there never reaches Kafka.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from estarsync_core.errors import InvalidRecord
from estarsync_core.headers import RawHeaders

SIGNATURE_HEADER = "x-estar-signature"
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_IDENTITY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_TYPE = 100


class Notification(msgspec.Struct, frozen=True):
    """One message; `message` holds ids only, as text, under the shop's names."""

    subscriber: _Number
    sequence: _Number
    type: Annotated[str, msgspec.Meta(min_length=1, max_length=_MAX_TYPE)]
    message: dict[str, Any]

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)

    def headers(self, now: datetime) -> RawHeaders:
        """Kafka headers: CloudEvents in Kafka's binary mode.

        Args:
            now: when it was received; the shop does not say when it happened.
        """
        time = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        pairs = {
            "ce_specversion": "1.0",
            "ce_id": f"{self.subscriber}/{self.sequence}",
            "ce_source": f"/estar/subscribers/{self.subscriber}",
            "ce_type": "com.estarsync.notification.v1",
            "ce_time": time,
            "content-type": "application/json",
        }
        return [(name, value.encode()) for name, value in pairs.items()]


_decoder = msgspec.json.Decoder(Notification, strict=False)  # numbers may come as text


def sign(secret: bytes, body: bytes) -> bytes:
    """The signature of a raw body: base64 of its HMAC-SHA256."""
    return base64.b64encode(hmac.digest(secret, body, hashlib.sha256))


def is_signed(body: bytes, signature: bytes, secrets: Sequence[bytes]) -> bool:
    """Whether one of the secrets made this signature; takes as long for a wrong one as for a right one."""
    # Every secret is tried, also after one that fits.
    matches = [hmac.compare_digest(sign(secret, body), signature.strip()) for secret in secrets]
    return any(matches)


def read_notification(body: bytes) -> Notification:
    """A notification from its JSON, with the ids of its message alone.

    Raises:
        InvalidRecord: field `body`, code `not_json` or `not_a_notification`.
    """
    try:
        found = _decoder.decode(body)
        return msgspec.structs.replace(found, message=ids_only(found.message))
    except msgspec.ValidationError as error:
        raise InvalidRecord("body", "not_a_notification") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRecord("body", "not_json") from error


def ids_only(message: dict[str, Any]) -> dict[str, Any]:
    """The ids of a message at any depth, as text; an id is a short plain value whose name ends in `id`."""
    kept: dict[str, Any] = {}
    for name, value in message.items():
        if isinstance(value, dict):
            kept[name] = ids_only(value)
        elif isinstance(value, list):
            kept[name] = [ids_only(child) for child in value if isinstance(child, dict)]
        elif name.casefold().endswith("id") and _is_identity(value):
            kept[name] = str(value)
    return {name: value for name, value in kept.items() if value and _IDENTITY.fullmatch(name)}


def order_ids(notification: Notification, names: Collection[str]) -> list[str]:
    """The orders that a notification is about, each once.

    Args:
        notification: which.
        names: what the shop calls an order's id in a message, in upper or lower case.
    """
    wanted = {name.casefold() for name in names}
    found = (value for name, value in _leaves(notification.message) if name.casefold() in wanted)
    return list(dict.fromkeys(found))


def _leaves(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in message.items():
        if isinstance(value, str):
            yield name, value
            continue
        for child in value if isinstance(value, list) else [value]:
            yield from _leaves(child)


def _is_identity(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return False
    return _IDENTITY.fullmatch(str(value)) is not None
