"""When it is worth a call to ask for an import."""

import pytest

from estarsync_core.import_times import FIRST, LAST, ImportTimes


def test_before_an_import_was_seen_it_is_asked_for_soon_and_then_less_and_less_often():
    times = ImportTimes()
    assert times.expected(100) is None
    assert times.first_look(100) == FIRST
    assert times.next_look(100, 1.0) == FIRST
    assert times.next_look(100, 50.0) == 10.0
    assert times.next_look(100, 5000.0) == LAST


def test_a_time_for_each_import_and_one_for_each_record_are_told_apart():
    times = ImportTimes()
    for records in (100, 1000, 5000):
        times.learn(records, 2.0 + 0.01 * records)
    assert times.expected(10_000) == pytest.approx(102.0)
    assert times.first_look(10_000) == pytest.approx(102.0)
    assert times.next_look(10_000, 102.0) == pytest.approx(5.1)


def test_imports_of_one_size_take_what_they_took_and_larger_ones_no_less():
    times = ImportTimes()
    for _ in range(3):
        times.learn(100, 4.0)
    assert times.expected(100) == 4.0
    assert times.expected(10_000) == 4.0


def test_the_first_question_comes_when_the_quickest_would_be_over():
    times = ImportTimes()
    for seconds in (50.0, 100.0, 150.0):
        times.learn(1000, seconds)
    assert times.expected(1000) == 100.0
    assert times.first_look(1000) == 50.0


def test_a_line_never_falls():
    times = ImportTimes()
    times.learn(10, 9.0)
    times.learn(1000, 1.0)
    assert times.expected(10**6) == times.expected(1) == 5.0


def test_an_import_that_takes_far_longer_than_expected_is_asked_for_less_often():
    times = ImportTimes()
    times.learn(10, 4.0)
    assert times.next_look(10, 4.0) == FIRST
    assert times.next_look(10, 40.0) == 8.0


def test_what_is_long_ago_is_forgotten():
    times = ImportTimes()
    times.learn(100, 1000.0)
    for _ in range(20):
        times.learn(100, 1.0)
    assert times.expected(100) == 1.0


def test_chance_among_small_imports_does_not_hold_up_the_question_for_a_large_one():
    times = ImportTimes()
    for _ in range(10):
        times.learn(1, 1.0)
        times.learn(2, 2.5)
    assert times.first_look(4500) <= 5.0
    assert times.next_look(4500, 20.0) == 4.0


def test_what_a_large_import_took_is_known_still_after_many_small_ones():
    times = ImportTimes()
    times.learn(5000, 100.0)
    for _ in range(50):
        times.learn(1, 2.0)
    assert times.expected(5000) == pytest.approx(100.0)
    assert times.expected(1) == pytest.approx(2.0, rel=0.05)
