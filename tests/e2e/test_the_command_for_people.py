"""Claim: `estarsync` finds every problem at once, makes the account ready, and says whether all is there."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from zoneinfo import ZoneInfo

import httpx
import pytest

from estarsync_runtime.clock import SystemClock
from sandbox.asgi import asgi, serving
from sandbox.dotdigital.handler import DotdigitalSandbox
from sandbox.dotdigital.options import Options
from sandbox.estar import profile_path
from sandbox.estar.generate import generate
from sandbox.estar.soap import Access, ShopSandbox

pytestmark = pytest.mark.e2e


@pytest.fixture
def environment(on_kafka, prefix) -> Iterator[dict[str, str]]:
    """Both twins on ports, and a part of the broker that nobody has touched."""
    clock, options = SystemClock(), Options()
    account = DotdigitalSandbox(options, clock, random.Random(1))  # noqa: S311 - seeded
    shop = ShopSandbox(generate(5, 1, ZoneInfo("Europe/London")), clock, Access("demo", "secret"))
    with ExitStack() as stack:
        yield {
            **on_kafka,
            "TOPIC_PREFIX": prefix,
            "TENANT_PROFILE": str(profile_path()),
            "ESTAR_BASE_URL": stack.enter_context(serving(asgi(shop.handle))),
            "ESTAR_USERNAME": "demo",
            "ESTAR_PASSWORD": "secret",
            "DOTDIGITAL_URL": stack.enter_context(serving(asgi(account.handle, parallel=True))),
            "DOTDIGITAL_USERNAME": options.username,
            "DOTDIGITAL_PASSWORD": options.password,
        }


def estarsync(environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "estarsync_cli", *arguments],
        env={"PATH": os.environ["PATH"], "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_from_nothing_to_ready(environment):
    code, out, _ = estarsync(environment, "doctor")
    assert code == 1
    assert "topics are missing" in out
    assert "NEWSLETTER_SUBSCRIBE" in out

    code, out, _ = estarsync(environment, "provision", "--dry-run", "--json")
    assert code == 0
    planned = json.loads(out)["steps"]
    assert "create the list 'eStar Contacts'" in planned
    assert len(planned) == 15 + 1 + 2

    assert estarsync(environment, "topics", "apply", "--replication", "1")[0] == 0
    assert estarsync(environment, "provision")[0] == 0
    code, out, _ = estarsync(environment, "doctor", "--json")
    assert (code, json.loads(out)["ok"]) == (0, True)
    assert "nothing to do" in estarsync(environment, "provision")[1]

    code, out, _ = estarsync(environment, "reconcile", "--json")
    assert code == 0
    assert {name: row["agree"] for name, row in json.loads(out).items()} == {
        "contacts": 0,
        "products": 0,
        "orders": 0,
    }


def test_what_dotdigital_holds_beyond_the_shop_is_extra(environment):
    estarsync(environment, "topics", "apply", "--replication", "1")
    estarsync(environment, "provision")
    auth = (environment["DOTDIGITAL_USERNAME"], environment["DOTDIGITAL_PASSWORD"])
    path = f"{environment['DOTDIGITAL_URL']}/insightData/v3/account/catalog_estar/STRAY"
    stray = {
        "id": "1",
        "sku": "STRAY",
        "name": "Stray",
        "price": 1,
        "url": "https://a.example",
        "image_path": "x",
    }
    assert httpx.put(path, json=stray, auth=auth).status_code == 201
    code, out, _ = estarsync(environment, "reconcile", "--entity", "products")
    assert code == 1
    assert "STRAY: extra" in out


def test_every_problem_is_named_at_once(environment):
    wrong = {
        **environment,
        "ESTAR_PASSWORD": "no",
        "DOTDIGITAL_PASSWORD": "no",
        "TENANT_PROFILE": "/nowhere.yaml",
    }
    code, out, _ = estarsync(wrong, "doctor")
    assert code == 1
    assert "DOTDIGITAL_USERNAME and DOTDIGITAL_PASSWORD" in out
    assert "cannot read /nowhere.yaml" in out
    code, _, err = estarsync({}, "reconcile")
    assert code == 2
    assert "KAFKA_BOOTSTRAP_SERVERS is not set" in err
    assert "DOTDIGITAL_USERNAME is not set" in err
