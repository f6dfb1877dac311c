"""Claim: a generated shop, dirt included, ends with the shop and Dotdigital in agreement."""

import pytest

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("seed", ["1", "2"])
def test_a_generated_shop_ends_in_agreement(demo, on_kafka, seed):
    run = demo("--size", "60", "--seed", seed, **on_kafka)
    assert run.wait(180) == 0, run.output
    report = run.report()
    assert report["in_agreement"] is True
    for counts in report["entities"].values():
        assert counts["agree"] > 0
        assert (counts["different"], counts["missing"], counts["extra"]) == (0, 0, 0)
    assert report["revenue"]["shop"] == report["revenue"]["dotdigital"]
    assert report["entities"]["contacts"]["dead_letters"] > 0, "the generator's dirt must have been met"
