"""The images, run as locked down as in a cluster: killed and started again in the middle, both sides agree in the end.

It needs a Docker engine with the images of `make images` (TAG), and their network to be this machine's.
"""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from estarsync_core.entities import Entity
from estarsync_core.topics import declared_topics
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.dotdigital.connect import DotdigitalSettings
from estarsync_runtime.kafka.admin import apply_topics
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import KafkaSettings
from sandbox.demo import proof
from sandbox.demo.progress import scrape, total
from sandbox.estar import profile_path
from sandbox.processes import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.long]

CLOCK = SystemClock()
TAG = os.environ.get("TAG") or "dev"
SERVICES = ("extractor", "transformer", "loader")
LOCKED = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "512m"]
LOGIN = {
    "ESTAR_USERNAME": "sandbox",
    "ESTAR_PASSWORD": "sandbox",
    "DOTDIGITAL_USERNAME": "sandbox@example.com",
    "DOTDIGITAL_PASSWORD": "sandbox",
}


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = shutil.which("docker") or "docker"
    return subprocess.run([command, *arguments], check=False, capture_output=True, text=True)


class Containers:
    """Containers on this machine's network; they go with the test."""

    def __init__(self) -> None:
        self._run = uuid.uuid4().hex[:8]
        self._names: list[str] = []

    def start(
        self, name: str, image: str, environment: dict[str, str], *more: str, mount: Path | None = None
    ) -> None:
        given = [word for pair in environment.items() for word in ("-e", "=".join(pair))]
        if mount is not None:
            given += ["-v", f"{mount}:/etc/estarsync/tenant-profile.yaml:ro"]
        tmpfs = ["--tmpfs", "/data:uid=10001"]
        container = f"estarsync-{self._run}-{name}"
        base = ["run", "-d", "--name", container, "--network", "host", *LOCKED, *tmpfs, *given]
        done = docker(*base, f"estarsync/{image}:{TAG}", *more)
        assert done.returncode == 0, done.stderr
        self._names.append(name)

    def do(self, verb: str, name: str) -> None:
        done = docker(verb, f"estarsync-{self._run}-{name}")
        assert done.returncode == 0, done.stderr

    def exit_code(self, name: str) -> int:
        done = docker("inspect", "--format", "{{json .State}}", f"estarsync-{self._run}-{name}")
        return int(json.loads(done.stdout)["ExitCode"])

    def logs(self) -> str:
        tails = [docker("logs", "--tail", "5", f"estarsync-{self._run}-{name}") for name in self._names]
        return "\n".join(done.stdout + done.stderr for done in tails)

    def remove(self) -> None:
        for name in self._names:
            docker("rm", "-f", f"estarsync-{self._run}-{name}")


@pytest.fixture
def containers() -> Iterator[Containers]:
    wanted = [f"estarsync/{name}:{TAG}" for name in (*SERVICES, "sandbox")]
    if shutil.which("docker") is None or docker("image", "inspect", *wanted).returncode:
        pytest.skip("no Docker engine holds the images here: start one, and run `make images`")
    found = Containers()
    yield found
    found.remove()


def wait(holds, containers, seconds=120):
    deadline = CLOCK.monotonic() + seconds
    while not holds():
        assert CLOCK.monotonic() < deadline, containers.logs()
        CLOCK.sleep(0.3)


def page(url):
    try:
        return httpx.get(url, timeout=5).text
    except httpx.TransportError:
        return ""


def test_killed_in_the_middle_both_sides_agree(kafka, prefix, containers):
    ports = {name: free_port() for name in (*SERVICES, "shop", "dotdigital")}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    for twin in ("shop", "dotdigital"):
        size = ["--size", "150"] if twin == "shop" else ["--import-seconds", "1"]
        containers.start(twin, "sandbox", LOGIN, twin, "serve", "--port", str(ports[twin]), *size)
    apply_topics({"bootstrap.servers": kafka.bootstrap}, declared_topics(), prefix, replication=1, timeout=30)
    environment = {
        **LOGIN,
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "TOPIC_PREFIX": prefix,
        "TENANT_PROFILE": "/etc/estarsync/tenant-profile.yaml",
        "ESTAR_BASE_URL": urls["shop"],
        "DOTDIGITAL_URL": urls["dotdigital"],
    }
    wait(
        lambda: page(f"{urls['shop']}/sandbox/stats") and page(f"{urls['dotdigital']}/sandbox/summary"),
        containers,
    )
    for name in SERVICES:
        given = {**environment, "HTTP_PORT": str(ports[name]), "INSTANCE_ID": f"{name}-0"}
        containers.start(name, name, given, mount=profile_path())
    wait(lambda: "ok" in page(f"{urls['loader']}/readyz"), containers)
    wait(lambda: httpx.get(f"{urls['dotdigital']}/sandbox/summary").json()["jobs"]["accepted"], containers)
    for name in SERVICES:
        containers.do("kill", name)
    for name in reversed(SERVICES):
        containers.do("start", name)

    account = DotdigitalSettings(
        dotdigital_username=LOGIN["DOTDIGITAL_USERNAME"],
        dotdigital_password=SecretStr(LOGIN["DOTDIGITAL_PASSWORD"]),
        dotdigital_url=urls["dotdigital"],
    )
    settings = KafkaSettings(kafka_bootstrap_servers=kafka.bootstrap, topic_prefix=prefix)
    with httpx.Client() as http:
        truth = proof.fetch_truth(http, urls["shop"])
        wait(lambda: delivered(http, truth, urls), containers, 240)
    result = proof.prove(truth, settings, account, CLOCK, Metrics(CollectorRegistry()))
    assert result.in_agreement, f"{result.document()}\n{containers.logs()}"
    for name in SERVICES:
        containers.do("stop", name)
        assert containers.exit_code(name) == 0, containers.logs()


def delivered(http, truth, urls):
    """Whether everything was read, nothing waits, and Dotdigital has as many records as the shop."""
    if total(scrape(http, urls["extractor"]), "estarsync_extractor_first_load_done") != len(Entity):
        return False
    state = http.get(f"{urls['dotdigital']}/sandbox/state").json()
    held = {each["collectionName"]: each["recordCount"] for each in state["collections"]}
    there = {
        "contacts": state["contacts"],
        "orders": held.get("orders", 0),
        "products": held.get("catalog_estar", 0),
    }
    if any(there[entity] < len(truth[entity]["expected"]) for entity in Entity):
        return False
    waiting = scrape(http, urls["loader"])
    return bool(waiting) and total(waiting, "estarsync_loader_pending_records") == 0
