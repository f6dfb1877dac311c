"""Claim: `canary` sends synthetic records the whole path, measures it, and leaves both sides in agreement."""

import json
import signal
import subprocess
import sys
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.e2e
EMAIL, KEY = "estarsync-canary@example.com", "estarsync-canary"


def held(installation, path: str) -> int:
    return httpx.get(installation.account_url + path, auth=installation.auth, timeout=60).status_code


def fly(installation) -> dict[str, Any]:
    code, out, err = installation.command("canary", "--yes", "--json", "--timeout", "120")
    assert code == 0, out + err + installation.logs()
    return dict(json.loads(out))


def test_a_canary_flies(installation):
    installation.load()
    installation.wait_until("agreement", lambda: installation.command("reconcile")[0] == 0)
    wanted = installation.counts()

    code, _, err = installation.command("canary")
    assert code == 2
    assert "--yes" in err

    for _ in range(2):  # the second time its contact is there already
        found = fly(installation)
        assert {path["result"] for path in found["records"].values()} == {"arrived"}
        for path in found["records"].values():
            seconds = path["seconds"]
            assert set(seconds) == {"extract", "transform", "deliver", "read_back", "end_to_end"}
            assert 0 < seconds["end_to_end"] < 120
        assert found["removal_seconds"] > 0

    assert held(installation, f"/contacts/v3/email/{EMAIL}") == 200
    assert held(installation, f"/insightData/v3/account/catalog_estar/{KEY}") == 404
    counts = installation.counts()
    assert counts == {**wanted, "contacts": wanted["contacts"] + 1}
    result = installation.json("reconcile")
    assert {(each["missing"], each["different"], each["extra"]) for each in result.values()} == {(0, 0, 0)}
    assert result["contacts"]["agree"] == wanted["contacts"], "the canary counts as nobody's contact"

    # No shop knows it: a snapshot does not take it for gone, and nothing is asked for it.
    (story,) = installation.json("trace", EMAIL)
    assert any(event["what"] == "shop event" for event in story["events"])
    code, _, err = installation.command(
        "canary", "--yes", CANARY_SKU=next(iter(installation.truth()["products"]["expected"]))
    )
    assert code == 1
    assert "under the canary's keys (products)" in err

    # A service stands still: the command says where it waits, and Ctrl-C leaves nothing behind.
    installation.stop("transformer")
    code, out, err = installation.command("canary", "--yes", "--timeout", "10")
    assert code == 1
    assert "products: the transformer has not mapped it" in err, out + err
    flying = subprocess.Popen(
        [sys.executable, "-m", "estarsync_cli", "canary", "--yes"],
        env=installation.environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert flying.stderr is not None
    said = ""
    while "has not mapped it" not in said:
        said += flying.stderr.readline() or pytest.fail(said)
    code, _, err = installation.command("canary", "--yes")
    assert code == 2
    assert "is under way" in err
    flying.send_signal(signal.SIGINT)
    _, said = flying.communicate(timeout=60)
    assert flying.returncode == 130, said
    assert "taken away again" in said
    installation.start("transformer")
    assert {path["result"] for path in fly(installation)["records"].values()} == {"arrived"}
    assert installation.counts() == counts


def test_a_canary_that_is_out_of_scope_says_so(installation):
    installation.start("extractor", "transformer")
    installation.start("loader", CONTACT_SCOPE="subscribed")
    installation.wait_until("the loader's provisioning", lambda: installation.command("doctor")[0] == 0)
    code, out, err = installation.command("canary", "--yes", "--json", CONTACT_SCOPE="subscribed")
    assert code == 0, out + err + installation.logs()
    results = {entity: path["result"] for entity, path in json.loads(out)["records"].items()}
    assert results == {"contacts": "filtered", "products": "arrived", "orders": "filtered"}
    assert held(installation, f"/contacts/v3/email/{EMAIL}") == 404
    code, out, err = installation.command("canary", "--yes")
    assert code == 0
    assert "CONTACT_SCOPE leaves the canary's contact out" in err
