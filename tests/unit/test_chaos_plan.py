"""What goes wrong in a run of chaos."""

import pytest

from sandbox.chaos.plan import EXTRA, SERVICES, plan


def test_the_same_seed_gives_the_same_plan():
    assert plan(7, 60, broker=False) == plan(7, 60, broker=False)
    assert plan(7, 60, broker=False) != plan(8, 60, broker=False)


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_is_in_order_and_ends_in_time(seed):
    acts = plan(seed, 60, broker=seed % 2 == 0)
    times = [act.at for act in acts]
    assert times == sorted(times)
    assert all(3 <= at < 60 for at in times)
    assert all(act.who in {*SERVICES, *EXTRA, ""} for act in acts)


def test_in_many_plans_everything_happens():
    acts = [act for seed in range(50) for act in plan(seed, 60, broker=True)]
    kinds = {act.kind for act in acts}
    assert kinds == {"kill", "stop", "freeze", "broker", "dotdigital", "shop", "edit", "add", "remove"}
    killed = {act.who for act in acts if act.kind == "kill"}
    assert killed == set(SERVICES)
    assert "kill loader-0" in " ".join(str(act) for act in acts)


def test_a_broker_that_is_somebody_elses_is_left_alone():
    acts = [act for seed in range(50) for act in plan(seed, 60, broker=False)]
    assert "broker" not in {act.kind for act in acts}
