"""What a notification may say, and who may say it."""

from datetime import UTC, datetime

import pytest

from estarsync_core.errors import InvalidRecord
from estarsync_core.estar.notifications import is_signed, order_ids, read_notification, sign

BODY = (
    b'{"subscriber": 7, "sequence": "12", "type": "order.split", '
    b'"message": {"orderID": 41, "newOrderID": "42", "email": "a@b.example", "customer": {"ID": "9", "Name": "A"}, '
    b'"items": [{"orderItemID": "5", "note": "x"}, "loose"], "big ID": "1", "freeID": "a b", "okID": true}}'
)


def test_a_body_is_signed_by_any_of_the_secrets() -> None:
    secrets = [b"old", b"new"]
    assert is_signed(BODY, sign(b"old", BODY), secrets)
    assert is_signed(BODY, b" " + sign(b"new", BODY) + b"\n", secrets)
    assert not is_signed(BODY, sign(b"other", BODY), secrets)
    assert not is_signed(BODY + b" ", sign(b"old", BODY), secrets)
    assert not is_signed(BODY, b"", secrets)
    assert not is_signed(BODY, "sígnature".encode("latin-1"), secrets)


def test_the_signature_is_the_published_one() -> None:
    # The well-known HMAC-SHA256 of this key and sentence, in base64.
    signature = sign(b"key", b"The quick brown fox jumps over the lazy dog")
    assert signature == b"97yD9DBThCSxMpjmqm+xQ+9NWaFJRhdZl0edvC0aPNg="


def test_nothing_but_ids_is_kept() -> None:
    found = read_notification(BODY)
    assert (found.subscriber, found.sequence, found.type) == (7, 12, "order.split")
    assert found.message == {
        "orderID": "41",
        "newOrderID": "42",
        "customer": {"ID": "9"},
        "items": [{"orderItemID": "5"}],
    }
    assert read_notification(found.encode()) == found


def test_orders_are_found_under_the_shops_names() -> None:
    found = read_notification(BODY)
    assert order_ids(found, ["OrderID", "neworderid"]) == ["41", "42"]
    assert order_ids(found, ["orderItemID"]) == ["5"]
    assert order_ids(found, []) == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "not_json"),
        (b"<xml/>", "not_json"),
        (b'{"type": "\xff"}', "not_json"),
        (b'{"message": ' + b'{"a": ' * 100_000, "not_json"),
        (b"[]", "not_a_notification"),
        (b"{}", "not_a_notification"),
        (b'{"subscriber": -1, "sequence": 1, "type": "t", "message": {}}', "not_a_notification"),
        (b'{"subscriber": 1, "sequence": 1, "type": "", "message": {}}', "not_a_notification"),
        (b'{"subscriber": 1, "sequence": 1, "type": "t", "message": "x"}', "not_a_notification"),
        (
            b'{"subscriber": 1, "sequence": 99999999999999999999, "type": "t", "message": {}}',
            "not_a_notification",
        ),
    ],
)
def test_what_is_no_notification_is_refused_without_quoting_it(body: bytes, code: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        read_notification(body)
    assert str(caught.value) == f"body: {code}"


def test_headers_are_those_of_cloudevents() -> None:
    headers = dict(read_notification(BODY).headers(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)))
    assert headers == {
        "ce_specversion": b"1.0",
        "ce_id": b"7/12",
        "ce_source": b"/estar/subscribers/7",
        "ce_type": b"com.estarsync.notification.v1",
        "ce_time": b"2026-01-02T03:04:05.000Z",
        "content-type": b"application/json",
    }
