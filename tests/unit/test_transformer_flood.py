import pytest

from estarsync_core.errors import Stop
from transformer.flood import Flood, FloodBatch, FloodLimits


def flooded(batch: FloodBatch, records: int) -> None:
    for number in range(1, records + 1):
        batch.dead(number, "orders", "missing")


def test_a_share_counts_across_batches_once_there_are_enough_records() -> None:
    flood = Flood(FloodLimits(run=0, share=0.1))
    for _ in range(9):
        batch = flood.batch()
        for number in range(1, 100, 5):  # a fifth of them, but few records yet
            batch.dead(number, "orders", "missing")
        batch.finish(100)
    batch = flood.batch()
    with pytest.raises(
        Stop, match=r"181 of the latest 1000 records are dead letters, most of them missing in orders"
    ):
        batch.dead(100, "orders", "missing")


def test_old_records_weigh_less() -> None:
    flood = Flood(FloodLimits(run=0, share=0.5))
    for _ in range(20):
        flood.batch().finish(10_000)
    batch = flood.batch()
    with pytest.raises(Stop, match="TRANSFORMER_DEAD_LETTER_SHARE"):
        flooded(batch, 30_000)


def test_limits_can_be_lifted() -> None:
    flood = Flood(FloodLimits(run=0, share=1))
    batch = flood.batch()
    flooded(batch, 4999)
    batch.finish(4999)


def test_a_run_goes_on_into_the_next_batch() -> None:
    flood = Flood(FloodLimits(run=2, share=1))
    first = flood.batch()
    first.dead(5, "orders", "missing")
    first.finish(5)
    with pytest.raises(Stop, match="TRANSFORMER_DEAD_LETTER_RUN"):
        flood.batch().dead(1, "orders", "missing")
