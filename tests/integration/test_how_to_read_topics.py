"""docs/how-to/read-topics.md does what it says: its own commands are run."""

import json
import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer

from estarsync_core.entities import Entity, Lane, Version
from estarsync_core.headers import EventHeaders
from estarsync_core.topics import typed_topic
from estarsync_runtime.avro import AvroCodec
from sandbox.kafka import Broker

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.usefixtures("topics")]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "read-topics.md").read_text(encoding="utf-8")
FETCH, READ, HEADERS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
ORDER = {
    "id": "100045",
    "email": "aroha@shop.example",
    "order_total": 19.9,
    "order_subtotal": 19.9,
    "discount_amount": 0.0,
    "delivery_total": 0.0,
    "currency": "NZD",
    "purchase_date": datetime(2024, 1, 2, tzinfo=UTC),
    "order_status": "Completed",
    "delivery_method": None,
    "billing_address": None,
    "delivery_address": None,
    "products": [{"name": "Tee", "sku": "S", "price": 9.95, "qty": 2, "product_id": None}],
}


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """avro-tools, fetched as the page says, once for all runs on this machine."""
    missing = [name for name in ("kcat", "java", "mvn") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; the page says where they come from")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "estarsync" / "avro-tools"
    if not list(cache.glob("*.jar")):
        part = tmp_path_factory.mktemp("avro-tools")
        done = shell(FETCH, {"TOOLS": str(part)}, part)
        if done.returncode:
            pytest.skip(f"Maven can't fetch avro-tools: {done.stdout[:200]}")
        cache.mkdir(parents=True, exist_ok=True)
        for jar in part.glob("*.jar"):
            shutil.move(jar, cache / jar.name)
    return cache


def shell(script: str, env: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    if not (folder / "schemas").exists():
        (folder / "schemas").symlink_to(ROOT / "schemas")
    command = ["bash", "-euo", "pipefail", "-c", script]
    return subprocess.run(
        command, env=os.environ | env, cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )


def publish(kafka: Broker, prefix: str) -> None:
    facts = EventHeaders(
        Entity.ORDERS, Version(7, 1), Lane.LIVE, "test", datetime(2024, 1, 2, tzinfo=UTC), typed=True
    )
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    value = AvroCodec().encode(Entity.ORDERS, ORDER)
    producer.produce(prefix + typed_topic(Entity.ORDERS), value, "100045", headers=[*facts.encode()])
    assert producer.flush(30) == 0


def test_an_order_is_read_without_a_registry(kafka: Broker, prefix: str, tools: Path, tmp_path: Path) -> None:
    publish(kafka, prefix)
    env = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "TOPIC_PREFIX": prefix, "TOOLS": str(tools)}
    done = shell(READ, env, tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["id"], found["order_total"], found["products"][0]["sku"]) == ("100045", 19.9, "S")
    done = shell(HEADERS, env, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("100045 ")
    assert "ce_sequence=7" in done.stdout
    assert "ce_lane=live" in done.stdout
