"""`kill -9` at random moments, in the first load and in live traffic, with another one standing by."""

import random
from contextlib import ExitStack

import pytest

from estarsync_runtime.clock import SystemClock
from sandbox.estar.faults import Faults

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.usefixtures("topics")]
CLOCK = SystemClock()
KINDS = ("price", "email", "order", "split", "return", "void")


def test_killed_at_random_moments_it_loses_and_repeats_nothing(world) -> None:
    dice = random.Random(11)  # noqa: S311 - the same story every time
    world.sandbox.faults.set(Faults(slow=1.0, slow_seconds=0.02))
    with ExitStack() as stack:
        pair = [stack.enter_context(world.extractor()) for _ in range(2)]
        for death in range(4):
            if death == 2:  # the others meet live traffic
                world.sandbox.faults.set(Faults())
                world.wait_for_load()
            world.wait_for_word("ready", death + 1)
            for _ in range(3):
                world.edit(kind=dice.choice(KINDS))
                CLOCK.sleep(dice.uniform(0.0, 0.5))
            for each in pair:  # one of them works, the other one is replaced
                each.kill()
                each.wait(30)
                if dice.random() < 0.5:
                    break
            pair = [each if each.poll() is None else stack.enter_context(world.extractor()) for each in pair]
        world.wait_for_load()
        world.wait_for_poll()
    world.assert_true_copy()
