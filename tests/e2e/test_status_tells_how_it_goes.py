"""Claim: `estarsync status` says what runs, what waits, and what needs a person."""

import pytest

from estarsync_core.control import LaneStop, encode, stop_key
from estarsync_core.entities import Entity
from estarsync_runtime.kafka.control import write_words

pytestmark = pytest.mark.e2e


def test_status_tells_how_it_goes(installation):
    code, out, _ = installation.command("status")
    assert code in {0, 1}
    assert "running" in out

    installation.load()
    urls = [f"http://127.0.0.1:{port}" for port in installation.ports.values()]
    words = [word for url in urls for word in ("--service", url)]
    installation.wait_until(
        "an empty backlog",
        lambda: all(row["records"] == 0 for row in installation.json("status", *words)["backlogs"]),
    )
    code, out, err = installation.command("status", *words)
    assert code == 0, out + err
    assert "nothing needs a person" in out
    found = installation.json("status", *words)
    assert found["problems"] == []
    assert found["members"] == {"extractor": 1, "transformer": 1, "loader": 1}
    assert {each["name"]: each["ready"] for each in found["services"]} == dict.fromkeys(
        installation.ports, True
    )
    assert {feed["entity"] for feed in found["feeds"]} == {"contacts", "products", "orders"}
    assert all(feed["first_load_done"] for feed in found["feeds"])
    orders = len(installation.truth()["orders"]["expected"])
    assert found["records_since_start"]["orders"]["delivered"] == orders
    attempts = {(row["entity"], row["outcome"]): row["count"] for row in found["attempts_last_15_minutes"]}
    assert attempts["orders", "delivered"] == orders
    assert found["imports_open"] == {}
    assert {row["tier"] for row in found["quota"]} >= {"lowCallRate"}

    # A change waits while the loader is away.
    installation.stop("loader")
    for _ in range(20):  # some of the generated products are fit for nothing
        installation.edit(kind="price")
    at = installation.clock.now()
    stop = LaneStop("s1", "flood", "too many dead letters", at)
    write_words(installation.kafka, {stop_key(Entity.ORDERS): encode(stop)})
    installation.wait_until(
        "what waits for the loader",
        lambda: any(
            row["records"] > 0 and row["behind_seconds"] > 0
            for row in installation.json("status")["backlogs"]
            if (row["service"], row["entity"]) == ("loader", "products")
        ),
        seconds=90,
    )
    code, out, _ = installation.command("status", *words)
    assert code == 1
    assert "lane of orders is stopped" in out
    assert "does not answer" in out
