"""Laws of fetching: what can be read is read, what can't is named, and no id is blamed for a shop in trouble."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estarsync_core.errors import RetryLater
from estarsync_core.estar.content import Record
from estarsync_runtime.estar.soap import Refused, TooSlow
from extractor.fetch import Fetcher

IDS = [str(number) for number in range(40)]
some_ids = st.sets(st.sampled_from(IDS), max_size=6)


class Shop:
    """Fails every call that holds a poison id, does not return what has vanished, and counts."""

    def __init__(self, poison: set[str], vanished: set[str], error: RetryLater) -> None:
        self.poison = poison
        self.vanished = vanished
        self.error = error
        self.calls = 0

    def retrieve(self, ids: Sequence[str]) -> Mapping[str, Record]:
        self.calls += 1
        if self.poison & set(ids):
            raise self.error
        return {identity: {"ID": identity} for identity in ids if identity not in self.vanished}


errors = st.sampled_from(
    [(Refused("no"), "refused"), (TooSlow("slow"), "too_slow"), (RetryLater("?"), "unreadable")]
)


@given(some_ids, some_ids, errors)
def test_every_id_is_read_or_named(
    poison: set[str], vanished: set[str], error: tuple[RetryLater, str]
) -> None:
    failure, code = error
    shop = Shop(poison, vanished, failure)
    result = Fetcher(shop.retrieve, lambda _: None).fetch(IDS)
    assert set(result.records) == set(IDS) - poison - vanished
    names = dict.fromkeys(vanished, "not_returned") | dict.fromkeys(poison, code)
    assert result.failed == names
    # A poison id is found by halving, 6 times for 40 ids, each with a look at the witness.
    assert shop.calls <= 2 + len(poison) * 30


@given(st.sampled_from([1, 7, 40, 400]), st.booleans())
def test_no_id_is_blamed_for_a_shop_in_trouble(size: int, known: bool) -> None:  # noqa: FBT001 - drawn
    ids = [str(number) for number in range(size)]
    shop = Shop({*ids, "w"}, set(), Refused("down"))
    with pytest.raises(RetryLater):
        Fetcher(shop.retrieve, lambda _: "w" if known else None).fetch(ids)
    assert shop.calls <= 20


def test_a_lone_poison_id_is_found_by_a_witness_from_before() -> None:
    shop = Shop({"1"}, set(), Refused("no"))
    assert Fetcher(shop.retrieve, lambda _: "2").fetch(["1"]).failed == {"1": "refused"}


def test_a_witness_that_went_bad_is_replaced() -> None:
    shop = Shop({"1", "2"}, set(), Refused("no"))
    asked: list[str | None] = []

    def next_witness(last: str | None) -> str:
        asked.append(last)
        return "2" if last is None else "3"

    fetcher = Fetcher(shop.retrieve, next_witness)
    with pytest.raises(RetryLater):
        fetcher.fetch(["1"])
    assert fetcher.fetch(["1"]).failed == {"1": "refused"}
    assert asked == [None, "2"]


def test_an_id_that_fails_once_is_not_given_up() -> None:
    shop = Shop({"1"}, set(), Refused("no"))

    def retrieve(ids: Sequence[str]) -> Mapping[str, Record]:
        try:
            return shop.retrieve(ids)
        finally:
            if ids == ["1"]:
                shop.poison = set()

    result = Fetcher(retrieve, lambda _: "2").fetch(["1"])
    assert (set(result.records), result.failed) == ({"1"}, {})
