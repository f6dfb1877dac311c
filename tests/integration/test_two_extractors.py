"""Of two extractors exactly one publishes; the other one stands by, and takes over whatever happens to the first."""

import random
import signal
from contextlib import ExitStack

import pytest

from estarsync_core.entities import Entity
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.lifecycle import EXIT_FENCED, EXIT_STOPPED
from sandbox.estar.faults import Faults

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("topics")]
CLOCK = SystemClock()


def published(world) -> int:
    return sum(checkpoint.sequence for checkpoint in world.checkpoints.values())


def test_a_standby_goes_on_where_a_killed_one_was(world) -> None:
    world.sandbox.faults.set(Faults(slow=1.0, slow_seconds=0.05))
    with world.extractor() as first:
        world.wait_until(lambda: published(world) >= 10)
        with world.extractor():
            world.wait_for_word("standing_by")
            first.kill()
            first.wait(30)
            killed, before = CLOCK.monotonic(), published(world)
            world.wait_until(lambda: published(world) > before)
            assert CLOCK.monotonic() - killed < 40  # 10 s on an idle machine
            world.sandbox.faults.set(Faults())
            world.wait_for_load()
    world.assert_true_copy()


@pytest.mark.long
def test_a_standby_begins_at_once_when_the_first_is_stopped(world) -> None:
    with world.extractor() as first:
        world.wait_for_load()
        with world.extractor() as second:
            world.wait_for_word("standing_by")
            first.send_signal(signal.SIGTERM)
            assert first.wait(30) == EXIT_STOPPED, world.output
            world.wait_for_word("leading", 2)
            world.edit(kind="order")
            world.wait_for_poll()
            second.send_signal(signal.SIGTERM)
            assert second.wait(30) == EXIT_STOPPED, world.output
    world.assert_true_copy()


def test_one_that_was_frozen_never_publishes_again(world) -> None:
    world.sandbox.faults.set(Faults(slow=1.0, slow_seconds=0.05))
    with world.extractor() as first:
        world.wait_until(lambda: published(world) >= 10)
        with world.extractor():
            world.wait_for_word("standing_by")
            first.send_signal(signal.SIGSTOP)
            world.wait_for_word("leading", 2)
            world.sandbox.faults.set(Faults())
            first.send_signal(signal.SIGCONT)
            assert first.wait(60) == EXIT_FENCED, world.output
            with world.extractor():  # as a supervisor does
                world.wait_for_load()
                world.wait_for_word("standing_by", 2)
    assert world.output.count('"event": "leading"') == 2
    world.assert_true_copy()


@pytest.mark.long
def test_two_that_are_restarted_for_ever_get_on(world) -> None:
    dice = random.Random(7)  # noqa: S311 - the same deaths every time
    world.sandbox.faults.set(Faults(slow=1.0, slow_seconds=0.02))
    with ExitStack() as stack:
        pair = [stack.enter_context(world.extractor()) for _ in range(2)]
        for _ in range(6):
            before = published(world)
            world.wait_until(lambda: published(world) > before or world.loaded)  # noqa: B023 - called in this turn
            victim = dice.randrange(2)
            if dice.random() < 0.5:
                pair[victim].kill()
            else:
                pair[victim].send_signal(signal.SIGTERM)
            pair[victim].wait(30)
            pair[victim] = stack.enter_context(world.extractor())
        world.sandbox.faults.set(Faults())
        world.wait_for_load()
        world.edit(kind="order")
        world.wait_for_poll()
        assert [each.poll() for each in pair] == [None, None], world.output
    world.assert_true_copy()
    assert len(world.read().raw(Entity.ORDERS)) > 0
