"""The first load says how far it has come, and goes on there after any end of the process."""

from typing import Any

from estarsync_core.estar.checkpoint import FeedMark, decode_checkpoint

FIRST = {"contacts": "contacts_modified", "products": "products_snapshot", "orders": "orders_created"}


def shown(world, name: str, entity: str, **labels: str) -> Any:
    return world.metrics.registry.get_sample_value(
        f"estarsync_extractor_first_load_{name}", {"entity": entity, **labels}
    )


def marks(world, entity: str) -> list[FeedMark]:
    """The marks of its first load in the order of their commits."""
    values = [value for _, key, value, _ in world.log.of("estarsync.checkpoints.v1") if key == entity]
    feeds = [decode_checkpoint(value or b"").feeds for value in values]
    found = [each[FIRST[entity]] for each in feeds if FIRST[entity] in each]
    return found[: [mark.first_load_done for mark in found].index(True)]


def test_progress_only_grows_and_ends_at_all_of_it(world) -> None:
    world.load()
    for entity in FIRST:
        ratios = [mark.ratio for mark in marks(world, entity)]
        assert ratios == sorted(ratios), entity
        assert len(set(ratios)) > 2, entity
        assert all(0 <= ratio <= 1 for ratio in ratios), entity
        assert shown(world, "ratio", entity) == 1
        assert shown(world, "done", entity) == 1
        assert shown(world, "left_seconds", entity, bound="high") == 0
    assert shown(world, "records", "contacts") >= len(world.shop.customers.records)
    assert shown(world, "total_records", "products") == len(world.shop.products.records)
    assert shown(world, "total_records", "orders") is None, "the shop does not say how many there are"


def test_killed_anywhere_it_goes_on_and_reads_no_product_twice(world) -> None:
    read = dict.fromkeys(FIRST, 0.0)
    for entity in FIRST:
        world.run(lambda: entity in world.checkpoints and shown(world, "ratio", entity) > 0.3)  # noqa: B023 - in this turn
        read[entity] = shown(world, "records", entity)
        world.loop = world.start()
    world.load()
    world.assert_true_copy()
    for entity, before in read.items():
        counted = [mark.records for mark in marks(world, entity)]
        assert counted == sorted(counted), entity
        assert counted[-1] >= before > 0
    products = world.metrics.registry.get_sample_value(
        "estarsync_extractor_read_total", {"entity": "products"}
    )
    assert products <= len(world.shop.products.records) * 1.3, (
        "only those that share a barcode are read again"
    )


def test_the_estimate_is_a_band_that_holds_the_truth_at_an_even_pace(world) -> None:
    bands: list[tuple[float, float, float]] = []

    def look() -> bool:
        world.clock.advance(3.0)  # as if each step took so long
        low, high = (shown(world, "left_seconds", "products", bound=bound) for bound in ("low", "high"))
        if low:
            bands.append((world.clock.monotonic(), low, high))
        return bool(shown(world, "done", "products"))

    world.run(look)
    end = world.clock.monotonic()
    assert bands, "a load of this size says something"
    for at, low, high in bands:
        assert low <= high
        assert low * 0.5 <= end - at <= high * 2 + 6
