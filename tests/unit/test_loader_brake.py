"""When dead letters are a flood."""

from estarsync_core.entities import Entity
from loader.lanes import Brake

PRODUCTS = Entity.PRODUCTS


def test_few_among_many_are_no_flood():
    brake = Brake(run=10, share=0.5)
    for _ in range(1000):
        assert not brake.holds(PRODUCTS, 4, 10)
        brake.count(PRODUCTS, 4, 10)


def test_a_run_is_one_across_batches_and_ends_with_a_delivered_record():
    brake = Brake(run=10, share=1)
    brake.count(PRODUCTS, 6, 6)
    assert brake.holds(PRODUCTS, 4, 4)
    assert not brake.holds(PRODUCTS, 4, 5)
    assert not brake.holds(Entity.ORDERS, 4, 4)
    brake.count(PRODUCTS, 4, 5)
    assert not brake.holds(PRODUCTS, 9, 9)


def test_a_share_counts_once_there_are_enough_records():
    brake = Brake(run=0, share=0.5)
    assert not brake.holds(PRODUCTS, 999, 999)
    brake.count(PRODUCTS, 400, 900)
    assert not brake.holds(PRODUCTS, 99, 99)
    assert not brake.holds(PRODUCTS, 100, 100)
    assert brake.holds(PRODUCTS, 101, 101)


def test_old_records_weigh_less():
    brake = Brake(run=0, share=0.5)
    for _ in range(100):
        brake.count(PRODUCTS, 0, 1000)
    assert brake.holds(PRODUCTS, 9000, 9500)


def test_a_person_waves_a_flood_through_until_records_are_delivered_again():
    brake = Brake(run=10, share=0.5)
    brake.wave_through(PRODUCTS)
    assert not brake.holds(PRODUCTS, 5000, 5000)
    brake.count(PRODUCTS, 5000, 5000)
    brake.count(PRODUCTS, 0, 0)
    assert not brake.holds(PRODUCTS, 5000, 5000)
    brake.count(PRODUCTS, 0, 1)
    assert brake.holds(PRODUCTS, 10, 10)
