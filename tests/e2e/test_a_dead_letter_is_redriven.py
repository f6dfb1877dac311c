"""Claim: dead letters are found, redriven the way that live records go, counted when they fail again, and set aside."""

import pytest

pytestmark = pytest.mark.e2e


def test_a_dead_letter_is_redriven(installation):
    installation.load()
    installation.wait_until("agreement", lambda: installation.command("reconcile")[0] == 0)
    before = {row["topic"]: row["count"] for row in installation.json("dlq", "list")}
    assert "estar.orders.v1.dlq" in before  # a generated shop has its dirt

    # What could not be mapped is fetched from the shop again, and fails again: a new letter with a higher attempt.
    words = ["--at", "mapping", "--entity", "orders"]
    code, out, err = installation.command("dlq", "redrive", *words, "--yes")
    assert code == 0, out + err + installation.logs()
    installation.wait_until(
        "the second attempt",
        lambda: any(row["attempts"] >= 2 for row in installation.json("dlq", "list", *words)),
    )
    code, out, _ = installation.command("dlq", "drop", *words, "--yes")
    assert code == 0
    assert installation.json("dlq", "list", *words) == []
