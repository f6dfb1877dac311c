"""What the monitoring tests share: the whole path as processes, and a real Prometheus that scrapes it."""

import json
import os
import re
import shutil
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from estarsync_core.topics import declared_topics
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.admin import apply_topics
from sandbox.estar import profile_path
from sandbox.kafka import Broker
from sandbox.processes import Process, free_port, start, stop

_RULES = Path(__file__).parents[3] / "deploy/prometheus/rules"
_CLOCK = SystemClock()
_SHORT = {r"\[(\d+)[mh]\]": "[15s]", r"offset (\d+)[mh]": "offset 15s"}
SERVICES = ("extractor", "webhooks", "transformer", "loader")


def hurried(text: str) -> str:
    """Rules whose windows and waits are seconds, so that a test needs no hour. Thresholds stay as they are."""
    for pattern, replacement in _SHORT.items():
        text = re.sub(pattern, replacement, text)
    return re.sub(r"^( *for:) .*$", r"\1 1s", text, flags=re.MULTILINE)


class Monitored:
    """The twins, the services and Prometheus; all end with it."""

    def __init__(self, folder: Path, kafka: Broker, prefix: str, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._http = stack.enter_context(httpx.Client(timeout=10))
        self._processes: dict[str, Process] = {}
        self._ports = {name: free_port() for name in SERVICES}
        self._receiver = free_port()
        secret = {
            "ESTAR_WEBHOOK_SECRET": "webhook-secret",
            "ESTAR_USERNAME": "sandbox",
            "ESTAR_PASSWORD": "sandbox",
            "DOTDIGITAL_USERNAME": "sandbox@example.com",
            "DOTDIGITAL_PASSWORD": "sandbox",
        }
        hook = f"http://127.0.0.1:{self._receiver}"
        self.shop = self._twin("shop", "shop", "serve", "--size", "40", "--webhook-url", hook, **secret)
        self.account = self._twin("dotdigital", "dotdigital", "serve", **secret)
        self._environment = {
            **os.environ,
            **secret,
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "TOPIC_PREFIX": prefix,
            "TENANT_PROFILE": str(profile_path()),
            "ESTAR_BASE_URL": self.shop,
            "DOTDIGITAL_URL": self.account,
            "WEBHOOK_PORT": str(self._receiver),
        }
        for name in SERVICES:
            self.start(name)
        self.prometheus = self._prometheus()

    def start(self, name: str) -> None:
        """Start a service, or start it again."""
        environment = {
            **self._environment,
            "HTTP_PORT": str(self._ports[name]),
            "DATA_DIR": str(self._folder / f"data-{name}"),
            "INSTANCE_ID": f"{name}-0",
        }
        module = "extractor.webhooks" if name == "webhooks" else name
        argv = [sys.executable, "-m", module]
        self._processes[name] = start(name, argv, environment, self._folder / f"{name}.log")
        self._stack.callback(stop, self._processes[name], 15)

    def kill(self, name: str) -> None:
        """End a service at once."""
        os.kill(self._processes[name].pid, signal.SIGKILL)
        self._processes[name].wait(10)

    def post(self, url: str, document: object) -> dict[str, Any]:
        """Tell a twin something."""
        answer = self._http.post(url, json=document)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus answers; fails on an expression that it does not take."""
        answer = self._http.get(f"{self.prometheus}/api/v1/query", params={"query": expression})
        document = answer.json()
        assert document["status"] == "success", f"{expression}: {document.get('error')}"
        found: list[dict[str, Any]] = document["data"]["result"]
        return found

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        answer = self._http.get(f"{self.prometheus}/api/v1/alerts").json()
        return {each["labels"]["alertname"] for each in answer["data"]["alerts"] if each["state"] == "firing"}

    def until(
        self,
        holds: Callable[[], object],
        meanwhile: Callable[[], object] = bool,
        seconds: float = 90,
        what: str = "it",
    ) -> None:
        """Wait until something holds, doing something else every second."""
        deadline = _CLOCK.monotonic() + seconds
        while not holds():
            ended = [name for name, each in self._processes.items() if not each.alive()]
            logs = {name: self._processes[name].tail(3) for name in ended}
            assert _CLOCK.monotonic() < deadline, (
                f"{what} never came; firing: {self.firing()}; ended: {json.dumps(logs)}"
            )
            meanwhile()
            _CLOCK.sleep(0.5)

    def _twin(self, name: str, *arguments: str, **environment: str) -> str:
        log = self._folder / f"{name}.log"
        process = start(
            name, [sys.executable, "-m", "sandbox", *arguments], {**os.environ, **environment}, log
        )
        self._stack.callback(stop, process, 15)
        deadline = _CLOCK.monotonic() + 60
        while (found := re.search(r"on (http://\S+)", log.read_text())) is None:
            assert process.alive(), log.read_text()
            assert _CLOCK.monotonic() < deadline, log.read_text()
            _CLOCK.sleep(0.05)
        return found.group(1)

    def _prometheus(self) -> str:
        rules = self._folder / "rules"
        rules.mkdir()
        for path in _RULES.glob("*.yaml"):
            (rules / path.name).write_text(hurried(path.read_text()))
        targets = [f"127.0.0.1:{port}" for port in self._ports.values()]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules / "*.yaml")],
            "scrape_configs": [{"job_name": "estarsync", "static_configs": [{"targets": targets}]}],
        }
        (self._folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        address = f"127.0.0.1:{free_port()}"
        argv = [
            "prometheus",
            f"--config.file={self._folder}/prometheus.yaml",
            f"--storage.tsdb.path={self._folder}/tsdb",
            f"--web.listen-address={address}",
        ]
        process = start("prometheus", argv, os.environ, self._folder / "prometheus.log")
        self._stack.callback(stop, process, 15)
        deadline = _CLOCK.monotonic() + 60
        while True:
            try:
                if self._http.get(f"http://{address}/-/ready").status_code == httpx.codes.OK:
                    return f"http://{address}"
            except httpx.TransportError:
                assert process.alive(), process.tail()
            assert _CLOCK.monotonic() < deadline, process.tail()
            _CLOCK.sleep(0.1)


@pytest.fixture(scope="module")
def monitored(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    """The whole path under a real Prometheus; skipped where there is none, unless REQUIRE_PROMETHEUS=1."""
    if shutil.which("prometheus") is None:
        if os.environ.get("REQUIRE_PROMETHEUS") == "1":
            pytest.fail("REQUIRE_PROMETHEUS=1, but there is no prometheus", pytrace=False)
        pytest.skip("there is no prometheus here: install it (Debian: apt-get install prometheus)")
    prefix = f"monitored-{uuid.uuid4().hex[:8]}."  # of each module: a stopped lane is durable
    apply_topics({"bootstrap.servers": kafka.bootstrap}, declared_topics(), prefix, replication=1, timeout=30)
    with ExitStack() as stack:
        yield Monitored(tmp_path_factory.mktemp("monitored"), kafka, prefix, stack)
