"""What the end-to-end tests share: the demo as a person starts it, and its report."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from estarsync_core.entities import Entity
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.settings import KafkaSettings
from sandbox.asgi import asgi, serving
from sandbox.dotdigital.handler import DotdigitalSandbox
from sandbox.dotdigital.options import Options
from sandbox.estar import profile_path
from sandbox.estar.cli import shop_zone
from sandbox.estar.generate import generate
from sandbox.estar.soap import Access, ShopSandbox
from sandbox.kafka import Broker
from sandbox.processes import Process, free_port, start, stop

# A price that changes is seen within seconds.
_QUICK = "\ncadences: {products_snapshot: 0.05}\n"
DemoStarter = Callable[..., "Demo"]


class Demo:
    """A demo that runs as a process of its own."""

    def __init__(self, folder: Path, arguments: list[str], environment: dict[str, str]) -> None:
        self.folder = folder
        self.log = folder / "demo.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sandbox", "demo", *arguments],
                cwd=folder,
                env={**os.environ, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8")

    def wait(self, seconds: float) -> int:
        """Its exit code, once it ends."""
        return self.process.wait(seconds)

    def report(self) -> dict[str, Any]:
        """The report that it left."""
        report: dict[str, Any] = json.loads((self.folder / "demo-report.json").read_text(encoding="utf-8"))
        return report


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[DemoStarter]:
    """Start demos; they end with the test."""
    demos: list[Demo] = []

    def start(*arguments: str, **environment: str) -> Demo:
        folder = tmp_path / f"demo-{len(demos)}"
        folder.mkdir()
        demos.append(Demo(folder, list(arguments), environment))
        return demos[-1]

    yield start
    for each in demos:
        if each.process.poll() is None:
            each.process.send_signal(signal.SIGINT)
            each.process.wait(60)


@pytest.fixture
def on_kafka(kafka: Broker) -> dict[str, str]:
    """The environment that puts a demo on the tests' real Kafka."""
    return {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap}


@pytest.fixture
def shop_data() -> Path:
    """A real shop's invoices, which are not part of this repository."""
    folder = Path(os.environ.get("SHARED_DIR", Path(__file__).parents[3] / "shared"))
    path = folder / "data" / "online-retail-2010-12_2011-06.csv.gz"
    if not path.is_file():
        pytest.skip(f"the real shop's invoices are not here ({path.name}); set SHARED_DIR to where they are")
    return path


class Installation:
    """Both twins, the services as processes that a test starts and ends, and the command for people.

    Args:
        stack: ends what was started.
        kafka: the broker.
        prefix: of the topics, which are there.
        folder: for the profile, the logs and the services' files.
        customers: how large the shop is.
    """

    def __init__(self, stack: ExitStack, kafka: Broker, prefix: str, folder: Path, customers: int) -> None:
        self.clock = SystemClock()
        self.kafka = KafkaSettings(kafka_bootstrap_servers=kafka.bootstrap, topic_prefix=prefix)
        self.account = DotdigitalSandbox(Options(), self.clock, random.Random(1))  # noqa: S311 - seeded
        shop = generate(customers, 1, shop_zone())
        self.shop = ShopSandbox(shop, self.clock, Access("sandbox", "sandbox"))
        self.shop_url = stack.enter_context(serving(asgi(self.shop.handle, parallel=True)))
        self.account_url = stack.enter_context(serving(asgi(self.account.handle, parallel=True)))
        self.profile = folder / "profile.yaml"
        self.profile.write_text(profile_path().read_text(encoding="utf-8") + _QUICK, encoding="utf-8")
        self.processes: dict[str, Process] = {}
        self.ports: dict[str, int] = {}
        self._edits = 0
        self._stack = stack
        self._folder = folder
        options = self.account.account.options
        self.auth = (options.username, options.password)
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": "200",
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "TOPIC_PREFIX": prefix,
            "TENANT_PROFILE": str(self.profile),
            "ESTAR_BASE_URL": self.shop_url,
            "ESTAR_USERNAME": "sandbox",
            "ESTAR_PASSWORD": "sandbox",
            "DOTDIGITAL_URL": self.account_url,
            "DOTDIGITAL_USERNAME": options.username,
            "DOTDIGITAL_PASSWORD": options.password,
        }

    def start(self, *services: str, **environment: str) -> None:
        """Start services; those that ran are not asked."""
        for name in services:
            self.ports[name] = free_port()
            more = {
                "HTTP_PORT": str(self.ports[name]),
                "DATA_DIR": str(self._folder / f"{name}-files"),
                "INSTANCE_ID": f"{name}-0",
                **environment,
            }
            command = [sys.executable, "-m", name]
            log = self._folder / f"{name}.log"
            process = start(name, command, {**os.environ, **self.environment, **more}, log)
            self.processes[name] = process
            self._stack.callback(stop, process, 20)

    def stop(self, *services: str) -> None:
        """Ask services to end, and wait until they have."""
        for name in services:
            stop(self.processes.pop(name), 30)

    def edit(self, **edit: object) -> Any:
        """Change something in the shop; what is left open is chosen anew each time."""
        self._edits += 1
        answer = httpx.post(
            f"{self.shop_url}/sandbox/edit", json={"seed": self._edits, "edits": [edit]}, timeout=60
        )
        return answer.raise_for_status().json()

    def truth(self) -> dict[str, Any]:
        """What a true copy of the shop must hold."""
        found: dict[str, Any] = httpx.get(f"{self.shop_url}/sandbox/truth", timeout=60).json()
        return found

    def command(self, *arguments: str, seconds: float = 240, **environment: str) -> tuple[int, str, str]:
        """Run `estarsync`, with more environment variables; its exit code, what it printed, what it said on stderr."""
        done = subprocess.run(
            [sys.executable, "-m", "estarsync_cli", *arguments],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    def json(self, *arguments: str) -> Any:
        """What a command prints with `--json`, whatever its exit code."""
        code, out, err = self.command(*arguments, "--json")
        assert out, f"exit code {code}: {err}\n{self.logs()}"
        return json.loads(out)

    def logs(self) -> str:
        """The ends of the services' logs."""
        return "\n".join(f"--- {each.name}\n{each.tail(30)}" for each in self.processes.values())

    def wait_until(self, what: str, condition: Callable[[], object], seconds: float = 180) -> None:
        """Block until something holds; a service that ends meanwhile is a failure."""
        deadline = self.clock.monotonic() + seconds
        while not condition():
            dead = [each.name for each in self.processes.values() if not each.alive()]
            assert not dead, f"{dead} ended before {what}\n{self.logs()}"
            assert self.clock.monotonic() < deadline, f"{what} did not happen in time\n{self.logs()}"
            self.clock.sleep(0.2)

    def counts(self) -> dict[Entity, int]:
        """How many records the account holds."""
        state = httpx.get(f"{self.account_url}/sandbox/state", timeout=60).json()
        collections = {row["collectionType"]: row["recordCount"] for row in state.get("collections", ())}
        return {
            Entity.CONTACTS: state["contacts"],
            Entity.PRODUCTS: collections.get("catalog", 0),
            Entity.ORDERS: collections.get("orders", 0),
        }

    def load(self) -> None:
        """Start all three services, and wait until the account holds the shop."""
        self.start("extractor", "transformer", "loader")
        wanted = {entity: len(self.truth()[entity]["expected"]) for entity in Entity}
        self.wait_until("the first load", lambda: self.counts() == wanted)


@pytest.fixture
def installation(kafka: Broker, prefix: str, topics: list[str], tmp_path: Path) -> Iterator[Installation]:  # noqa: ARG001 - the topics are there
    """A small shop on the tests' real Kafka; nothing is started yet."""
    with ExitStack() as stack:
        yield Installation(stack, kafka, prefix, tmp_path, customers=20)
