"""Claim: `estarsync trace` tells what happened to a record, from the shop to Dotdigital, and prints no value of it."""

import pytest

pytestmark = pytest.mark.e2e


def test_a_trace_tells_the_whole_story(installation):
    installation.load()
    truth = installation.truth()
    email, order = truth["orders"]["expected"][0]["email"], truth["orders"]["expected"][0]["id"]
    sku = truth["products"]["expected"][0]

    for key, entity in ((order, "orders"), (sku, "products")):
        installation.wait_until(
            "the delivery of its latest version",
            lambda words=(key, "--entity", entity): installation.json("trace", *words)[0][
                "verdict"
            ].startswith("delivered"),
        )
        (story,) = installation.json("trace", key, "--entity", entity)
        assert (story["entity"], story["key"]) == (entity, key)
        kinds = [event["what"] for event in story["events"]]
        assert kinds[0] == "shop event"
        assert kinds.index("payload") < kinds.index("attempt")
        states = [event["state"] for event in story["events"] if event["what"] == "import"]
        assert states[:2] == ["intent", "accepted"]
        times = [event["at"] for event in story["events"]]
        assert times == sorted(times)
        (attempt, *_) = [event for event in story["events"] if event["what"] == "attempt"]
        assert attempt["outcome"] == "delivered"
        assert any(event.get("import_id") == attempt["import_id"] for event in story["events"])

    code, out, _ = installation.command("trace", f" {email.upper()} ")
    assert code == 0
    assert email not in out
    assert "shop event" in out or "attempt" in out
    assert (
        installation.json("trace", order, "--entity", "orders", "--show-values")[0]["payload"]["email"]
        == email
    )
    assert installation.command("trace", "nobody@example.com")[0] == 1
    code, _, err = installation.command("trace", "no e-mail", "--entity", "contacts")
    assert code == 2
    assert "found by e-mail" in err
