"""Outgoing notifications, signed as eStar signs them."""

import base64
import hashlib
import hmac
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from sandbox.estar.faults import WebhookFaults
from sandbox.estar.state import Event

SIGNATURE = "x-estar-signature"


def sign(key: str, body: bytes) -> str:
    """The signature of a raw body: base64 of its HMAC-SHA256."""
    return base64.b64encode(hmac.digest(key.encode(), body, hashlib.sha256)).decode()


def envelope(event: Event) -> bytes:
    """The body that carries an event."""
    document = {
        "subscriber": event.subscriber,
        "sequence": event.sequence,
        "type": event.type,
        "message": event.message,
    }
    return json.dumps(document).encode()


@dataclass(frozen=True, slots=True)
class Target:
    """Who is notified."""

    url: str
    key: str = field(repr=False)
    client: httpx.Client = field(repr=False)


@dataclass(slots=True)
class Delivery:
    """What became of a batch of notifications."""

    accepted: int = 0
    """Posts that were answered with 2xx, duplicates included."""
    failed: int = 0
    """Posts that were not."""
    dropped: int = 0
    """Events never posted, on purpose."""


def deliver(target: Target, events: Sequence[Event], faults: WebhookFaults, dice: random.Random) -> Delivery:
    """Post events, each once, in order, unless the faults say otherwise; blocks until all are answered.

    A failed post is not repeated: the receiver finds the gap and asks `Events.Retrieve`.
    """
    result = Delivery()
    queue: list[Event] = []
    for event in events:
        if dice.random() < faults.drop:
            result.dropped += 1
            continue
        queue += [event] * (2 if dice.random() < faults.duplicate else 1)
    if faults.shuffle:
        dice.shuffle(queue)
    for event in queue:
        body = envelope(event)
        headers = {"content-type": "application/json", SIGNATURE: sign(target.key, body)}
        try:
            accepted = target.client.post(target.url, content=body, headers=headers).is_success
        except httpx.HTTPError:
            accepted = False
        result.accepted += accepted
        result.failed += not accepted
    return result
