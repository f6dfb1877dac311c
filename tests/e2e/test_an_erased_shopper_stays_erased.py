"""Claim: an erased shopper is deleted at Dotdigital, with a receipt, and stays away through a full replay."""

import httpx
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.long]


def is_customer(installation, email):
    """Whether the shop has a contact of that e-mail, and not only orders."""
    (story,) = installation.json("trace", email)
    return any(event["what"] == "shop event" for event in story["events"])


def test_an_erased_shopper_stays_erased(installation):
    installation.load()
    installation.wait_until("agreement", lambda: installation.command("reconcile")[0] == 0)
    expected = installation.truth()["orders"]["expected"]
    email, order = next(
        (row["email"], row["id"]) for row in expected if is_customer(installation, row["email"])
    )
    contact = f"{installation.account_url}/contacts/v3/email/{email}"
    assert httpx.get(contact, auth=installation.auth).status_code == 200

    code, out, err = installation.command("erase", email, "--yes")
    assert code == 0, out + err + installation.logs()
    assert email not in out + err
    receipt = installation.json("erase", email)
    assert receipt["over"]
    assert order in {record.get("key") for record in receipt["records"]}
    assert httpx.get(contact, auth=installation.auth).status_code == 404
    (story,) = installation.json("trace", email)
    assert story["verdict"].startswith("erased")

    # Everything once more, from both ends.
    for words in (
        ["backfill", "--entity", "orders", "--all", "--force"],
        ["resync", "--entity", "contacts", "--from", "raw", "--all"],
        ["resync", "--entity", "orders", "--from", "typed", "--all", "--force"],
    ):
        code, out, err = installation.command(*words, "--yes")
        assert code == 0, out + err + installation.logs()
    installation.wait_until("agreement", lambda: installation.command("reconcile")[0] == 0)
    assert httpx.get(contact, auth=installation.auth).status_code == 404
