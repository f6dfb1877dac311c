"""Claim: on a machine without Docker and JDK, a small shop still goes the whole way."""

import pytest

pytestmark = pytest.mark.e2e


def test_a_small_shop_on_the_broker_in_memory(demo):
    run = demo("--size", "30", SANDBOX_BROKER="mock", KAFKA_BOOTSTRAP_SERVERS="")
    assert run.wait(120) == 0, run.output
    assert "in memory" in run.output
    assert run.report()["broker"]["kind"] == "mock"
