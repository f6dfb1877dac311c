"""Claim: `reconcile` finds what differs at Dotdigital, a dry run says what a resync would do, and healing mends it."""

import json

import httpx
import pytest

pytestmark = pytest.mark.e2e


def test_a_difference_is_found_and_healed(installation, tmp_path):
    installation.load()
    installation.wait_until("agreement", lambda: installation.command("reconcile")[0] == 0)
    truth = installation.truth()
    sku, gone = truth["products"]["expected"][:2]
    order = truth["orders"]["expected"][0]["id"]
    url, auth = installation.account_url, installation.auth

    # Somebody edits at Dotdigital: a price, a product that is deleted, an order of nobody's.
    product = httpx.get(f"{url}/insightData/v3/account/catalog_estar/{sku}", auth=auth).json()["json"]
    wrong = {**product, "price": 0.5}
    assert (
        httpx.put(f"{url}/insightData/v3/account/catalog_estar/{sku}", json=wrong, auth=auth).status_code
        == 204
    )
    stray = {**product, "sku": "STRAY", "id": "STRAY"}
    assert httpx.put(f"{url}/insightData/v3/account/catalog_estar/STRAY", json=stray, auth=auth).is_success
    assert httpx.delete(f"{url}/insightData/v3/account/catalog_estar/{gone}", auth=auth).is_success

    details = tmp_path / "details.jsonl"
    found = installation.json("reconcile", "--entity", "products", "--details", str(details))["products"]
    assert (found["different"], found["missing"], found["extra"]) == (1, 1, 1)
    assert found["percentage"] < 100
    lines = [json.loads(line) for line in details.read_text(encoding="utf-8").splitlines()]
    assert {(line["kind"], line["key"]) for line in lines} == {
        ("different", sku),
        ("missing", gone),
        ("extra", "STRAY"),
    }
    sampled = installation.json("reconcile", "--sample", "10000")
    assert (sampled["products"]["different"], sampled["products"]["missing"]) == (1, 1)
    assert sampled["orders"]["agree"] == len(truth["orders"]["expected"])
    assert sampled["contacts"]["agree"] == len(truth["contacts"]["expected"])

    words = ["resync", "--entity", "products", "--from", "raw", "--all", "--dry-run"]
    planned = installation.json(*words, "--show-values")
    assert (planned["created"], planned["changed"], planned["rejected"]) == (1, 1, {})
    assert planned["unchanged"] == len(truth["products"]["expected"]) - 2
    (change,) = [sample for sample in planned["samples"] if sample["kind"] == "changed"]
    assert change["changes"]["price"]["is"] == 0.5
    code, out, _ = installation.command("resync", "--entity", "orders", "--key", order, "--dry-run")
    assert code == 0
    assert "1 records of orders are selected" in out

    code, _, err = installation.command("reconcile", "--heal")
    assert code == 2
    assert "--yes" in err
    code, out, err = installation.command("reconcile", "--entity", "products", "--heal", "--yes")
    assert code == 0, out + err + installation.logs()
    assert "1 are extra" in err
    after = installation.json("reconcile", "--entity", "products")["products"]
    assert (after["different"], after["missing"], after["extra"]) == (0, 0, 1)

    # A contact that only orders know: no payload of its own could be sent again.
    guest = next(
        row["email"]
        for row in truth["orders"]["expected"]
        if not any(
            event["what"] == "shop event" for event in installation.json("trace", row["email"])[0]["events"]
        )
    )
    assert httpx.delete(f"{url}/contacts/v3/email/{guest}", auth=auth).is_success
    found = installation.json("reconcile")
    assert found["contacts"]["missing"] == 1
    assert found["orders"]["missing"] >= 1
    code, out, err = installation.command("reconcile", "--heal", "--yes")
    assert code == 0, out + err + installation.logs()
    assert httpx.get(f"{url}/contacts/v3/email/{guest}", auth=auth).status_code == 200
    installation.wait_until(
        "agreement",
        lambda: installation.command("reconcile", "--entity", "orders", "--entity", "contacts")[0] == 0,
    )
