"""What the mapping remembers changes nothing but time."""

from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estarsync_core.errors import InvalidRecord
from estarsync_core.estar.records import OrderLine
from estarsync_core.mapping.fields import BadValue, Memory, Notes, Times
from estarsync_core.mapping.lines import Lines, Sold
from estarsync_core.mapping.text import clean, is_plain

NULL_DATES = frozenset({date(1900, 1, 1)})


def test_a_memory_forgets_everything_once_it_is_full() -> None:
    asked: list[int] = []

    def double(number: int) -> int:
        asked.append(number)
        return 2 * number

    memory = Memory(double, 2)
    assert [memory[number] for number in (1, 2, 1, 3, 1)] == [2, 4, 2, 6, 2]
    assert asked == [1, 2, 3, 1]


def test_an_item_remembers_a_few_quantities_and_gives_every_one() -> None:
    sold = Sold("Tee", "SKU-1", "5", Decimal("9.95"), Decimal(0))
    assert [sold.product(qty)["qty"] for qty in range(20)] == list(range(20))
    assert sold.product(3) is sold.product(3)
    assert len(sold.products) < 20


CENTS = st.decimals(-(10**6), 10**6, places=2)
FINER = st.decimals(-(10**6), 10**6, places=4)


@given(st.lists(st.tuples(st.integers(1, 50), CENTS | FINER), min_size=1, max_size=6))
def test_what_lines_come_to_is_exact_whether_in_cents_or_finer(bought: list[tuple[int, Decimal]]) -> None:
    lines = [OrderLine(Quantity=str(qty), UnitPrice=f"{price:f}") for qty, price in bought]
    _, total, _ = Lines(frozenset()).read(lines, Notes())
    exact = sum((qty * price for qty, price in bought), Decimal(0))
    assert total.exact() == exact
    assert total.sent("order_subtotal") == float(exact.quantize(Decimal("0.01"), ROUND_HALF_EVEN))


@pytest.mark.parametrize("price", ["99999999999.99", "99999999999.999"])
def test_more_than_a_double_keeps_is_refused(price: str) -> None:
    _, total, _ = Lines(frozenset()).read([OrderLine(Quantity="2147483647", UnitPrice=price)], Notes())
    with pytest.raises(InvalidRecord, match="out_of_range"):
        total.sent("order_subtotal")


def test_long_texts_are_not_remembered() -> None:
    memory = Memory(clean)
    assert memory["x" * 2000] == "x" * 2000
    assert memory["tee"] == "tee"
    assert list(memory) == ["tee"]


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "Pacific/Chatham", "Australia/Lord_Howe", "UTC"])
@given(moment=st.datetimes(datetime(1850, 1, 1), datetime(2150, 1, 1)))  # noqa: DTZ001 - the shop's local times
def test_a_plain_time_is_what_any_other_form_of_it_is(zone: str, moment: datetime) -> None:
    times = Times(ZoneInfo(zone), NULL_DATES)
    text = moment.replace(microsecond=0).isoformat()
    assert read(times, text) == read(times, f" {text} ") == read(times, text.replace("T", " "))


@pytest.mark.parametrize(
    "text",
    [
        "2024-09-29T02:30:00",  # New Zealand's clocks skip this hour
        "2024-04-07T02:30:00",  # and repeat this one
        "2024-04-07T02:46:00",  # the Chatham Islands' change within an hour
        "1900-01-01T00:00:00",
        "2024-01-02T03:04+05",
        "2024-01-02T030405.1",
        "2024-01-02T03:04:99",
        "2024-13-02T03:04:05",
    ],
)
def test_a_time_that_only_looks_plain_is_read_with_care(text: str) -> None:
    for zone in ("Pacific/Auckland", "Pacific/Chatham"):
        times = Times(ZoneInfo(zone), NULL_DATES)
        assert read(times, text) == read(times, f"{text} ")


def read(times: Times, text: str) -> datetime | str | None:
    try:
        found = times.instant(text)
    except BadValue as bad:
        return bad.code
    assert found is None or found.tzinfo is UTC
    return found


@given(st.text() | st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=127)))
def test_plain_text_needs_no_more_than_trimming(text: str) -> None:
    if is_plain(text.encode("utf-8", "surrogatepass")) and text.isprintable():
        assert clean(text) == (text.strip() or None)
