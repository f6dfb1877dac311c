"""Headers: what travels beside a record."""

from datetime import UTC, datetime

import pytest

from estarsync_core.entities import Entity, Lane, Reason, Version
from estarsync_core.errors import InvalidRecord
from estarsync_core.headers import EventHeaders, version_of

NOON = datetime(2026, 2, 3, 12, 0, tzinfo=UTC)


def headers(*, typed: bool, reason: Reason | None = None) -> EventHeaders:
    return EventHeaders(
        Entity.ORDERS, Version(7, 2 if typed else 0), Lane.LIVE, "https://shop", NOON, typed, reason
    )


def test_raw_headers_are_cloud_events():
    assert dict(headers(typed=False).encode()) == {
        "ce_specversion": b"1.0",
        "ce_id": b"orders/7",
        "ce_source": b"https://shop",
        "ce_type": b"com.estarsync.orders.raw.v1",
        "ce_time": b"2026-02-03T12:00:00.000Z",
        "content-type": b"application/json",
        "ce_sequence": b"7",
        "ce_lane": b"live",
    }


def test_typed_headers_carry_the_revision_and_a_tombstone_its_reason():
    encoded = dict(headers(typed=True, reason=Reason.RENAMED).encode())
    assert encoded["ce_id"] == b"orders/7/2"
    assert encoded["ce_revision"] == b"2"
    assert encoded["ce_reason"] == b"renamed"
    assert encoded["content-type"] == b"application/avro"


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("reason", [None, *Reason])
def test_what_is_written_is_read(typed, reason):
    written = headers(typed=typed, reason=reason)
    assert version_of(written.encode()) == (written.version, Lane.LIVE, reason)


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        [("ce_sequence", b"7")],
        [("ce_sequence", b"x"), ("ce_lane", b"live")],
        [("ce_sequence", None)],
    ],
)
def test_headers_without_a_version_are_refused(broken):
    with pytest.raises(InvalidRecord, match="headers: unreadable"):
        version_of(broken)


def test_versions_are_ordered_by_sequence_and_then_revision():
    assert Version(1, 9) < Version(2, 1) < Version(2, 2)
