from estarsync_core.deadletters import Origin, dead_letter_headers
from estarsync_core.errors import InvalidRecord

ORIGIN = Origin("shop.estar.orders.v1", 3, 42, "transformer", "pod-0", "map", "transformer.handler")
ERROR = InvalidRecord("lines[3].quantity", "not_an_integer")


def test_the_records_own_headers_stay_and_the_reason_follows() -> None:
    own = [("ce_sequence", b"7"), ("empty", None), ("ce_lane", b"live")]
    assert dead_letter_headers(own, ORIGIN, ERROR) == [
        ("ce_sequence", b"7"),
        ("empty", b""),
        ("ce_lane", b"live"),
        ("__connect.errors.topic", b"shop.estar.orders.v1"),
        ("__connect.errors.partition", b"3"),
        ("__connect.errors.offset", b"42"),
        ("__connect.errors.connector.name", b"transformer"),
        ("__connect.errors.task.id", b"pod-0"),
        ("__connect.errors.stage", b"map"),
        ("__connect.errors.class.name", b"transformer.handler"),
        ("__connect.errors.exception.class.name", b"estarsync_core.errors.InvalidRecord"),
        ("__connect.errors.exception.message", b"lines[3].quantity: not_an_integer"),
        ("estarsync.field", b"lines[3].quantity"),
        ("estarsync.code", b"not_an_integer"),
        ("estarsync.attempt", b"1"),
    ]


def test_a_record_that_fails_again_carries_one_reason_and_a_higher_attempt() -> None:
    once = dead_letter_headers(None, ORIGIN, ERROR)
    twice = dead_letter_headers(once, ORIGIN, InvalidRecord("email", "missing"))
    assert len(twice) == len(once)
    assert dict(twice)["estarsync.attempt"] == b"2"
    assert dict(twice)["estarsync.code"] == b"missing"


def test_an_attempt_that_is_no_number_starts_again() -> None:
    for value in (b"soon", b"9" * 5000, b""):
        headers = dead_letter_headers([("estarsync.attempt", value)], ORIGIN, ERROR)
        assert dict(headers)["estarsync.attempt"] == b"1"
