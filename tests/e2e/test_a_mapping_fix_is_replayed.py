"""Claim: a mapping bug is found by `reconcile`'s dry run, fixed, resynced from raw events, and all agrees again."""

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.long]


def test_a_mapping_fix_is_replayed(installation):
    right = installation.profile.read_text(encoding="utf-8")
    assert "currency: GBP" in right
    installation.profile.write_text(right.replace("currency: GBP", "currency: EUR"), encoding="utf-8")
    installation.load()
    installation.wait_until("agreement", lambda: installation.command("reconcile")[0] == 0)
    count = len(installation.truth()["products"]["expected"])

    # The bug is fixed and deployed: what is there does not change by itself.
    installation.profile.write_text(right, encoding="utf-8")
    installation.stop("transformer")
    installation.start("transformer")
    words = ["resync", "--entity", "products", "--from", "raw", "--all"]
    planned = installation.json(*words, "--dry-run", "--show-values")
    assert (planned["changed"], planned["created"]) == (count, 0)
    assert planned["samples"][0]["changes"]["currency"] == {"is": "EUR", "would be": "GBP"}

    code, out, err = installation.command(*words, "--yes")
    assert code == 0, out + err + installation.logs()
    installation.wait_until(
        "the account holds what the fix makes",
        lambda: installation.json(*words, "--dry-run")["unchanged"] == count,
    )
    installation.wait_until("agreement", lambda: installation.command("reconcile")[0] == 0)
