"""What people ask of the services, as it stands on the control topic."""

from datetime import UTC, datetime

import pytest

from estarsync_core.control import (
    Backfill,
    Blocked,
    Erasure,
    LaneStop,
    Letter,
    Progress,
    Redrive,
    Release,
    Resync,
    Words,
    email_hash,
    encode,
    erased_key,
    progress_key,
    release_key,
    request_key,
    stop_key,
)
from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord

AT = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("word", "key"),
    [
        (Resync("r1", Entity.ORDERS, "raw", AT, keys=("A", "B"), since=AT), "resync/r1"),
        (Backfill("b1", Entity.CONTACTS, AT, since=AT), "backfill/b1"),
        (Redrive("d1", "loader", AT, (Letter("dotdigital.orders.v1.dlq", 3, 77),)), "redrive/d1"),
    ],
)
def test_a_request_comes_back_as_it_was_written(word, key):
    words = Words()
    assert request_key(word) == key
    assert words.take(key.encode(), encode(word)) == key
    assert words.get(key, type(word)) == word
    assert words.all(key[:3], type(word)) == {key: word}


def test_a_word_is_taken_back_by_an_empty_value():
    words = Words()
    words.take(b"resync/r1", encode(Resync("r1", Entity.ORDERS, "raw", AT)))
    words.take(b"resync/r1", None)
    words.take(b"resync/r2", None)
    assert words.get("resync/r1", Resync) is None


def test_a_stop_holds_until_its_own_release():
    words = Words()
    assert words.stopped(Entity.ORDERS) is None
    words.take(release_key(Entity.ORDERS).encode(), encode(Release("s1", AT)))
    words.take(stop_key(Entity.ORDERS).encode(), encode(LaneStop("s2", "unknown_answer", "look", AT)))
    stop = words.stopped(Entity.ORDERS)
    assert stop is not None
    assert stop.id == "s2"
    words.take(release_key(Entity.ORDERS).encode(), encode(Release("s2", AT)))
    assert words.stopped(Entity.ORDERS) is None
    assert words.stopped(Entity.CONTACTS) is None


def test_what_estarsync_did_not_write_is_an_error_only_for_those_who_ask():
    words = Words()
    words.take(b"resync/x", b"{nonsense")
    words.take(b"\xff", b"nonsense")
    words.take(None, b"nonsense")
    assert words.get("resync/y", Resync) is None
    with pytest.raises(InvalidRecord) as caught:
        words.get("resync/x", Resync)
    assert (caught.value.field, caught.value.code) == ("estarsync.control.v1[resync]", "unreadable")


def test_the_block_list_knows_an_e_mail_in_any_form_and_holds_none():
    words = Words()
    key = erased_key(" Anna@Example.COM ")
    assert "anna" not in key
    assert "anna@example.com" not in words.blocked
    words.take(key.encode(), encode(Erasure("e1", AT)))
    assert "anna@example.com" in words.blocked
    assert "Anna@example.com" in words.blocked
    assert "bert@example.com" not in words.blocked
    assert "no e-mail" not in words.blocked
    assert None not in words.blocked
    assert len(words.blocked) == 1
    words.take(key.encode(), None)
    assert "anna@example.com" not in words.blocked


def test_a_block_list_may_begin_with_hashes():
    assert "anna@example.com" in Blocked([email_hash("anna@example.com")])


def test_progress_says_when_it_is_over():
    running = Progress("r1", "running", 10, None, AT)
    assert not running.over
    assert Progress("r1", "refused", 0, 0, AT, reason="older than the topic").over
    assert progress_key("r1") == "progress/r1"
    assert progress_key("r1", 4) == "progress/r1/4"


def test_the_oldest_request_that_is_not_over_comes_first():
    words = Words()
    for name, day in (("r1", 3), ("r2", 1), ("r3", 2)):
        at = AT.replace(day=day)
        words.take(f"resync/{name}".encode(), encode(Resync(name, Entity.ORDERS, "raw", at)))
    words.take(b"resync/r4", b"nonsense")
    words.take(b"backfill/b1", encode(Backfill("b1", Entity.ORDERS, AT)))
    words.take(progress_key("r2").encode(), encode(Progress("r2", "done", 1, 1, AT)))
    words.take(progress_key("r1").encode(), encode(Progress("r1", "running", 1, 2, AT, place={"a": 1})))
    assert [each.id for each in words.requests(Resync)] == ["r3", "r1"]
    assert [each.id for each in words.requests(Backfill)] == ["b1"]
    assert words.requests(Redrive) == []


def test_what_was_cancelled_is_over_until_it_is_taken_up_again():
    words = Words()
    asked = Resync("r1", Entity.ORDERS, "raw", AT, cancelled=True)
    words.take(b"resync/r1", encode(asked))
    assert words.requests(Resync) == [asked]  # nobody has obeyed yet
    words.take(progress_key("r1").encode(), encode(Progress("r1", "cancelled", 1, 2, AT)))
    assert words.requests(Resync) == []
    words.take(b"resync/r1", encode(Resync("r1", Entity.ORDERS, "raw", AT)))
    assert [each.id for each in words.requests(Resync)] == ["r1"]
    words.take(b"redrive/d1", encode(Redrive("d1", "loader", AT, ())))
    words.take(progress_key("d1").encode(), encode(Progress("d1", "cancelled", 0, 0, AT)))
    assert words.requests(Redrive) == []
