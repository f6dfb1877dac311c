"""What people ask of the poller, written as the command writes it, on a real Kafka."""

import msgspec
import pytest

from estarsync_core.control import (
    Backfill,
    Erasure,
    Letter,
    Progress,
    Redrive,
    encode,
    erased_key,
    progress_key,
)
from estarsync_core.deadletters import ATTEMPT, attempt_of
from estarsync_core.entities import Entity
from estarsync_core.topics import CONTROL, EXTRACT_DLQ
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.control import read_words, write_words
from estarsync_runtime.kafka.messages import headers_of
from sandbox.estar.truth import canonical

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("topics")]
CLOCK = SystemClock()


def done(world, request: str) -> bool:
    come = read_words(world.settings).get(progress_key(request), Progress)
    return come is not None and come.state == "done"


def test_a_dead_letter_a_backfill_and_an_erasure(world) -> None:
    with world.extractor():
        world.wait_for_load()
        before = world.read()
        letter = before.messages[EXTRACT_DLQ][0]
        place = Letter(EXTRACT_DLQ, letter.partition() or 0, letter.offset() or 0)
        again = Redrive("r", "extractor", CLOCK.now(), (place,))
        every = Backfill("b", Entity.PRODUCTS, CLOCK.now(), force=True)
        write_words(world.settings, {"redrive/r": encode(again), "backfill/b": encode(every)})
        world.wait_until(lambda: done(world, "r") and done(world, "b"))
        after = world.read()
        assert len(after.raw(Entity.PRODUCTS)) == 2 * len(before.raw(Entity.PRODUCTS))
        last = after.messages[EXTRACT_DLQ][-1]
        assert (last.key(), attempt_of(headers_of(last))) == (letter.key(), 2)
        assert dict(headers_of(letter))[ATTEMPT] == b"1"

        email = next(iter(after.latest(Entity.CONTACTS)))
        write_words(world.settings, {erased_key(email): encode(Erasure("e", CLOCK.now()))})
        world.wait_until(lambda: email not in world.read().latest(Entity.CONTACTS))
        world.wait_for_poll()
    left = world.read()
    trees = left.latest(Entity.ORDERS).values()
    assert email not in {canonical(order.get("Email")) for tree in trees for order in tree["orders"]}
    assert len(left.raw(Entity.CONTACTS)) == len(after.raw(Entity.CONTACTS)) + 1
    assert msgspec.json.decode(left.messages[CONTROL][0].value() or b"")
