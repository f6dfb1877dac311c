"""Confluent's wire format with a real registry: Apicurio from Maven, or the one in TEST_SCHEMA_REGISTRY_URL."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer
from prometheus_client import CollectorRegistry

from estarsync_core.entities import Entity, Lane, Version
from estarsync_core.headers import EventHeaders
from estarsync_core.topics import raw_topic, typed_topic
from estarsync_runtime.avro import AvroCodec, codec_for
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.health import Health
from estarsync_runtime.kafka.restore import read_topics
from estarsync_runtime.lifecycle import StopSignal
from estarsync_runtime.metrics import Metrics
from sandbox import processes
from sandbox.kafka import Broker
from sandbox.kafka.jars import java_command, java_version
from transformer.app import build, raw_topics
from transformer.settings import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("topics")]

VERSION = "3.3.3"
JAVA_NEEDED = 21
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
CLOCK = SystemClock()
PROFILE = """
websites:
  "1": {currency: NZD, product_url: "https://shop.example/p/{id}", image_base: "https://shop.example"}
"""


def java() -> str:
    places = [
        java_command(os.environ),
        *map(str, sorted(Path("/usr/lib/jvm").glob("*/bin/java"), reverse=True)),
    ]
    for command in places:
        if command and (java_version(command) or 0) >= JAVA_NEEDED:
            return command
    pytest.skip(
        f"no Java {JAVA_NEEDED} or newer, which Apicurio {VERSION} needs; set TEST_SCHEMA_REGISTRY_URL"
    )


def apicurio() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "estarsync"
    folder = cache / f"apicurio-{VERSION}"
    if folder.is_dir():
        return folder
    if shutil.which("mvn") is None:
        pytest.skip("no Maven to bring a schema registry; set TEST_SCHEMA_REGISTRY_URL")
    part = cache / f"apicurio-part-{os.getpid()}"
    artifact = f"-Dartifact=io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
    command = ["mvn", "-B", "-q", COPY, artifact, f"-DoutputDirectory={part}"]
    fetched = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    if fetched.returncode:
        pytest.skip(f"Maven can't fetch Apicurio: {fetched.stdout[:200]}")
    (archive,) = part.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(part / "app", filter="data")
    (part / "app").rename(folder)
    shutil.rmtree(part)
    return folder


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    given = os.environ.get("TEST_SCHEMA_REGISTRY_URL")
    if given:
        yield given
        return
    command, folder, port = java(), apicurio(), processes.free_port()
    options = ["-Xmx256m", "-XX:TieredStopAtLevel=1", f"-Dquarkus.http.port={port}"]
    options += ["-Dquarkus.http.host=127.0.0.1", "-jar", str(folder / "quarkus-run.jar")]
    log = tmp_path_factory.mktemp("registry") / "log"
    process = processes.start("registry", [command, *options], os.environ, log)
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    try:
        deadline = CLOCK.monotonic() + 90
        while not answers(url):
            assert process.alive(), process.tail(5)
            assert CLOCK.monotonic() < deadline, "the registry did not start in time"
            CLOCK.sleep(0.3)
        yield url
    finally:
        processes.stop(process, 5.0)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/subjects", timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@pytest.fixture
def settings(kafka: Broker, prefix: str, registry: str, tmp_path: Path) -> Settings:
    profile = tmp_path / "profile.yaml"
    profile.write_text(PROFILE)
    return Settings(
        kafka_bootstrap_servers=kafka.bootstrap,
        topic_prefix=prefix,
        tenant_profile=profile,
        instance_id="here",
        schema_registry_url=registry,
    )


def publish(settings: Settings, number: int) -> None:
    line = {"Barcode": "SKU-1", "Title": "Tee", "Quantity": "2", "UnitPrice": "9.95"}
    order = {"ID": str(number), "Email": "a@shop.example", "OrderDate": "2024-01-02", "Status": "Completed"}
    value = json.dumps({"orders": [order | {"Items": [line]}]}).encode()
    at = datetime(2024, 1, 2, tzinfo=UTC)
    headers = EventHeaders(Entity.ORDERS, Version(number, 0), Lane.BULK, "test", at, typed=False).encode()
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})
    producer.produce(settings.topic(raw_topic(Entity.ORDERS)), value, str(number), headers=[*headers])
    assert producer.flush(15) == 0


def transform(settings: Settings, expected: int) -> list[bytes]:
    """Run a transformer until so many orders are written; their values."""
    stop = StopSignal()
    with build(settings, CLOCK, Metrics(CollectorRegistry())) as loop, ThreadPoolExecutor(1) as thread:
        done = thread.submit(loop.run, raw_topics(settings), stop, Health(CLOCK))
        try:
            deadline = CLOCK.monotonic() + 60
            while len(values := written(settings)) < expected:
                assert CLOCK.monotonic() < deadline, "it was not written in time"
                CLOCK.sleep(0.2)
        finally:
            stop.set()
            done.result(60)
    return values


def written(settings: Settings) -> list[bytes]:
    topic = settings.topic(typed_topic(Entity.ORDERS))
    return [message.value() or b"" for message in read_topics(settings, [topic])]


def test_values_carry_the_registrys_number_and_any_reader_finds_the_schema(settings: Settings) -> None:
    publish(settings, 1)
    (value,) = transform(settings, 1)
    assert value[:1] == b"\0"
    number = int.from_bytes(value[1:5], "big")
    answer = httpx.get(f"{settings.schema_registry_url}/schemas/ids/{number}").json()
    assert json.loads(answer["schema"])["name"] == "Order"
    subject = f"{settings.topic(typed_topic(Entity.ORDERS))}-value"
    assert subject in httpx.get(f"{settings.schema_registry_url}/subjects").json()
    assert codec_for(settings).decode(Entity.ORDERS, value)["order_total"] == 19.9


def test_a_registry_may_be_introduced_later(settings: Settings) -> None:
    publish(settings, 1)
    transform(settings.model_copy(update={"schema_registry_url": None}), 1)
    publish(settings, 2)
    values = transform(settings, 2)
    assert sorted(value[:1] for value in values) == [b"\0", b"\xc3"]
    assert {codec_for(settings).decode(Entity.ORDERS, value)["id"] for value in values} == {"1", "2"}
    (plain,) = (value for value in values if value[:1] == b"\xc3")
    assert AvroCodec().decode(Entity.ORDERS, plain)["id"] == "1"


def test_the_how_to_reads_what_a_registry_describes(settings: Settings, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "read-topics.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    publish(settings, 1)
    transform(settings, 1)
    env = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "TOPIC_PREFIX": settings.topic_prefix,
        "SCHEMA_REGISTRY_URL": settings.schema_registry_url or "",
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["order_total"] == 19.9
