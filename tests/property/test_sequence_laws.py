"""Whatever is lost, repeated or reordered: every number is dealt with once, and what is missing is asked for."""

import random
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from estarsync_core.estar.sequences import MAX_GAP, Place, Ranges, Sequences, is_settled, missing, settle


@given(st.lists(st.integers(0, 40)))
def test_ranges_are_the_set_of_what_was_settled(numbers: list[int]) -> None:
    ranges: Ranges = ()
    for number in numbers:
        ranges = settle(ranges, number)
    assert [n for n in range(-1, 42) if is_settled(ranges, n)] == sorted(set(numbers))
    assert missing(ranges) == [
        n for n in range(min(numbers, default=0), max(numbers, default=0)) if n not in numbers
    ]
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(ranges))


class Shop:
    """Has some of the notifications, answers or doesn't, and counts how often it was asked for each."""

    def __init__(self, forgotten: set[Place]) -> None:
        self.forgotten = forgotten
        self.asked: Counter[Place] = Counter()


@given(
    st.lists(st.tuples(st.integers(1, 2), st.integers(5, 30)), min_size=1, max_size=60),
    st.sets(st.tuples(st.integers(1, 2), st.integers(5, 30))),
    st.integers(0, 2**32),
)
def test_every_number_between_is_dealt_with_exactly_once(
    arrivals: list[Place], forgotten: set[Place], seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311 - the same run every time
    shop = Shop(forgotten)
    sequences = Sequences({}, 0.0)
    done: Counter[Place] = Counter()
    lost: Counter[Place] = Counter()
    now = 0.0

    def ask() -> None:
        for place in sequences.due(now, 5):
            assert done[place] + lost[place] == 0, "asked for what is settled"
            shop.asked[place] += 1
            if place not in shop.forgotten:
                done[place] += sequences.arrived(place, now)
            else:
                lost[place] += sequences.not_returned(place, now)

    for place in arrivals:
        now += dice.choice([0.0, 0.5, 5.0])
        done[place] += sequences.arrived(place, now)
        ask()
        if dice.random() < 0.2:  # a restart: all that is known is in the checkpoint
            sequences = Sequences(sequences.settled, now)
    for _ in range(200):
        now += 300.0
        ask()
    assert sequences.open == 0
    for subscriber in {subscriber for subscriber, _ in arrivals}:
        numbers = [number for one, number in arrivals if one == subscriber]
        for number in range(min(numbers), max(numbers) + 1):
            assert done[subscriber, number] + lost[subscriber, number] == 1
    assert all(place in forgotten and shop.asked[place] >= 8 for place in +lost)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_jump_asks_for_no_more_than_the_last_numbers(first: int, second: int) -> None:
    sequences = Sequences({}, 0.0)
    sequences.arrived((1, first), 0.0)
    assert sequences.arrived((1, second), 0.0) == (first != second)
    assert sequences.open == max(0, min(MAX_GAP, abs(first - second) - 1))
    assert not sequences.arrived((1, second), 0.0)
    assert len(sequences.due(10.0, MAX_GAP)) == sequences.open
    assert Sequences(sequences.settled, 0.0).open == sequences.open
