"""The learned rate, case by case; its laws are in tests/property/test_rate_laws.py."""

import pytest

from estarsync_core.rate import FIRST_LIMIT, PATIENCE, WINDOW, QuotaHeaders, Tier, read_headers

NOW = 1_767_225_600.0


def heard(limit: int, remaining: int, reset_in: float = 60.0) -> QuotaHeaders:
    return QuotaHeaders(limit, remaining, reset_in)


def call(tier: Tier, now: float, headers: QuotaHeaders | None, *, rejected: bool = False) -> None:
    tier.answered(tier.made(now), now, headers, rejected=rejected)


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("30", 30),
        ("0", 0),
        (str(int(NOW) + 30), 30),
        (str((int(NOW) + 30) * 1000), 30),
        (str(int(NOW) - 5), 0),
        ("soon", None),
        ("-1", None),
        ("inf", None),
        ("nan", None),
    ],
)
def test_reset_is_read_in_every_form(reset, seconds):
    assert read_headers({"x-ratelimit-reset": reset}, NOW).reset_in == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("Thu, 01 Jan 2026 00:00:09 GMT", 9), ("Wed, 31 Dec 2025 00:00:00 GMT", 0), ("later", None)],
)
def test_retry_after_is_seconds_or_a_date(text, seconds):
    assert read_headers({"retry-after": text}, NOW).retry_after == seconds


def test_headers_are_read():
    headers = {
        "x-ratelimit-limit": "150",
        "x-ratelimit-remaining": "149",
        "x-ratelimit-reset": "12",
        "x-ratelimit-scope": "lowCallRate",
    }
    assert read_headers(headers, NOW) == QuotaHeaders(150, 149, 12, None, "lowCallRate")
    assert read_headers({}, NOW) == QuotaHeaders()
    assert read_headers({"x-ratelimit-scope": 'a scope, "so"'}, NOW).scope is None


def test_before_the_first_header_there_is_one_call_at_a_time_however_long_it_takes():
    tier = Tier()
    number = tier.made(0)
    assert tier.delay(100) > 0
    tier.answered(number, 100)
    assert tier.delay(100) == 0


def test_without_headers_the_smallest_published_quota_holds_in_any_minute():
    tier = Tier()
    for second in range(FIRST_LIMIT):
        assert tier.delay(second) == 0
        call(tier, second, None)
    wait = tier.delay(FIRST_LIMIT)
    assert WINDOW - FIRST_LIMIT <= wait < WINDOW - FIRST_LIMIT + 1
    assert tier.delay(FIRST_LIMIT + wait) == 0


def test_a_share_is_left_to_others():
    tier = Tier(share=0.5)
    call(tier, 0, heard(4, 3))
    call(tier, 0, heard(4, 2))
    assert tier.delay(0) > 59


def test_what_others_have_used_of_their_share_is_not_left_to_them_twice():
    tier = Tier(share=0.5)
    call(tier, 0, heard(10, 5))  # one call of ours, four of theirs
    for remaining in (4, 3, 2):
        assert tier.delay(0) == 0
        call(tier, 0, heard(10, remaining))
    assert tier.delay(0) == 0  # the fifth of ours; one of their share is left
    call(tier, 0, heard(10, 1))
    assert tier.delay(0) > 59


def test_a_call_waits_for_the_last_ones_answer_for_a_while():
    tier = Tier()
    call(tier, 0, heard(100, 99))
    tier.made(0)
    assert tier.delay(PATIENCE - 0.1) > 0
    assert tier.delay(PATIENCE) == 0


def test_slow_calls_are_taken_off_what_remains():
    tier = Tier()
    call(tier, 0, heard(3, 2))
    tier.made(0)
    tier.made(PATIENCE)
    assert tier.delay(2 * PATIENCE) > 30
    tier = Tier()
    call(tier, 0, None)
    for second in range(FIRST_LIMIT):
        tier.made(second)
    tier.limit = FIRST_LIMIT
    assert 0 < tier.delay(FIRST_LIMIT + PATIENCE) < 1  # all of it is on the way: nobody knows how long


def test_a_cancelled_call_was_none():
    tier = Tier()
    tier.cancelled(tier.made(0))
    assert tier.delay(0) == 0


def test_a_call_without_answer_may_have_been_counted():
    tier = Tier()
    call(tier, 0, heard(10, 1))
    call(tier, 0, None)
    assert tier.delay(0) > 59


def test_the_quota_is_back_when_the_minute_is_over_for_certain():
    tier = Tier()
    call(tier, 0, heard(1, 0, reset_in=20))
    assert tier.delay(20) > 0
    assert tier.delay(20 + tier.delay(20)) == 0


def test_an_idle_hour_is_no_trouble():
    tier = Tier()
    call(tier, 0, heard(1, 0, reset_in=20))
    assert tier.delay(3600) == 0


def test_an_older_minutes_answer_says_nothing_of_this_one():
    tier = Tier()
    first = tier.made(0)
    tier.answered(first, 0, heard(10, 9, reset_in=10))
    late = tier.made(9)
    call(tier, 12, heard(10, 0, reset_in=58))
    tier.answered(late, 13, QuotaHeaders(10, 8, reset_in=0))  # by its Date header, which was 3 s ago
    assert tier.delay(13) > 50


def test_an_answer_that_took_very_long_only_tells_the_limit():
    tier = Tier()
    tier.answered(tier.made(0), 30, heard(2, 0, reset_in=30))
    assert tier.limit == 2
    assert tier.delay(30) == 0


def test_without_reset_the_limit_is_learned_and_an_empty_minute_is_waited_out():
    tier = Tier()
    call(tier, 0, QuotaHeaders(limit=5, remaining=4))
    assert (tier.limit, tier.delay(0)) == (5, 0)
    call(tier, 0, QuotaHeaders(limit=5, remaining=0))
    assert tier.delay(0) == WINDOW


@pytest.mark.parametrize(
    ("headers", "least"),
    [
        (None, WINDOW),
        (QuotaHeaders(), WINDOW),
        (heard(10, 0, reset_in=20), 20),
        (QuotaHeaders(10, 0, reset_in=20, retry_after=40), 40),
        (QuotaHeaders(retry_after=5), 5),
    ],
)
def test_a_rejected_call_blocks_until_the_quota_is_back(headers, least):
    tier = Tier()
    call(tier, 0, headers, rejected=True)
    assert least < tier.delay(0) <= least + 2


def test_a_block_is_never_shortened():
    tier = Tier()
    tier.block(100)
    tier.block(50)
    assert tier.delay(40) == 60


def test_old_calls_are_forgotten():
    tier = Tier()
    for second in range(1000):
        call(tier, second, heard(100, 99))
    assert len(tier._back) <= 3 * WINDOW + 2


def test_paced_calls_are_spread_over_the_minute():
    tier = Tier()
    assert tier.pace(0) == 0  # nothing is known of the minute
    call(tier, 0, heard(20, 19))
    begun = tier._end[0] - WINDOW if tier._end else 0.0
    assert tier.interval == 3
    assert tier.pace(0) == 0
    assert tier.pace(0, spare=True) == pytest.approx(begun + 2 * 3)
    for _ in range(3):
        call(tier, 0, heard(20, 16))
    assert tier.pace(0) == pytest.approx(begun + 2 * 3)
    assert tier.pace(59) == 0


def test_of_few_calls_none_is_left_over():
    tier = Tier()
    call(tier, 0, heard(2, 1))
    assert tier.pace(40, spare=True) == 0


def test_without_headers_a_refusal_halves_what_is_dared_and_full_minutes_add_to_it():
    tier = Tier()
    call(tier, 0, QuotaHeaders())
    call(tier, 1, QuotaHeaders(), rejected=True)
    assert tier.guess == FIRST_LIMIT / 2
    call(tier, 100, QuotaHeaders())
    assert tier.guess == FIRST_LIMIT / 2  # it was not a full minute
    for second in range(100, 120):
        call(tier, second, QuotaHeaders())
    assert tier.guess == FIRST_LIMIT / 2 + 1
    for _ in range(10):
        tier.refused(200)
    assert tier.guess == 1


def test_once_it_is_known_that_there_are_no_headers_a_slow_call_holds_up_no_other():
    tier = Tier()
    call(tier, 0, QuotaHeaders())
    tier.made(0)
    assert tier.delay(PATIENCE - 1) > 0
    assert tier.delay(PATIENCE) == 0
