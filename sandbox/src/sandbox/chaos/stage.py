"""What a run needs: both twins in this process, and all services, each twice, as processes on a real Kafka."""

import json
import os
import random
import secrets
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import yaml

from estarsync_core.clock import Clock
from estarsync_core.topics import declared_topics
from estarsync_runtime.kafka.admin import apply_topics
from estarsync_runtime.settings import KafkaSettings
from sandbox.asgi import asgi, serving
from sandbox.chaos.plan import EXTRA, SERVICES
from sandbox.dotdigital.handler import DotdigitalSandbox
from sandbox.dotdigital.options import Options
from sandbox.estar import profile_path
from sandbox.estar.cli import shop_zone
from sandbox.estar.generate import generate
from sandbox.estar.soap import Access, ShopSandbox
from sandbox.estar.webhooks import Target
from sandbox.kafka import Broker
from sandbox.processes import Supervisor, free_port, stop

_GRACE = 15.0
_SECRET = "chaos"  # noqa: S105 - both ends of it are made here
_CADENCE = 0.04  # minutes


class Stage:
    """Everything that runs in one run. It ends with `stack`.

    Args:
        stack: ends what was started.
        kafka: the broker.
        folder: for logs, the profile and the services' files.
        seed: of the shop and the account.
        customers: how large the shop is.
        clock: the time.
        notice: called with a line about every death.
    """

    def __init__(
        self,
        stack: ExitStack,
        kafka: Broker,
        folder: Path,
        seed: int,
        customers: int,
        clock: Clock,
        notice: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self.kafka = KafkaSettings(
            kafka_bootstrap_servers=kafka.bootstrap, topic_prefix=f"chaos-{secrets.token_hex(3)}."
        )
        apply_topics(
            {"bootstrap.servers": kafka.bootstrap},
            declared_topics(),
            self.kafka.topic_prefix,
            replication=1,
            timeout=30.0,
        )
        options = Options(import_seconds=0.5)
        self.account = DotdigitalSandbox(options, clock, random.Random(seed))
        webhooks = free_port()
        http = stack.enter_context(httpx.Client(timeout=3))
        target = Target(f"http://127.0.0.1:{webhooks}/", _SECRET, http)
        shop = generate(customers, seed, shop_zone())
        self.shop = ShopSandbox(shop, clock, Access("sandbox", "sandbox"), target)
        self.account_url = stack.enter_context(serving(asgi(self.account.handle, parallel=True)))
        self.shop_url = stack.enter_context(serving(asgi(self.shop.handle, parallel=True)))
        self.environment = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "TOPIC_PREFIX": self.kafka.topic_prefix,
            "TENANT_PROFILE": str(self._profile()),
            "ESTAR_BASE_URL": self.shop_url,
            "ESTAR_USERNAME": "sandbox",
            "ESTAR_PASSWORD": "sandbox",
            "ESTAR_WEBHOOK_SECRET": _SECRET,
            "WEBHOOK_PORT": str(webhooks),
            "DOTDIGITAL_URL": self.account_url,
            "DOTDIGITAL_USERNAME": options.username,
            "DOTDIGITAL_PASSWORD": options.password,
            # What Dotdigital promises after a lost reply is a matter of minutes; here it is one of seconds.
            "LOADER_SETTLE_SECONDS": "5",
            "LOADER_LINGER_SECONDS": "0.3",
            "LOADER_DEAD_LETTER_RUN": "0",
        }
        self.supervisor = Supervisor(clock, notice, always=True)
        stack.callback(self.supervisor.stop, _GRACE)
        for name in SERVICES:
            self.add(name)

    def _profile(self) -> Path:
        """The sandbox shop's profile, with cadences of seconds."""
        profile = yaml.safe_load(profile_path().read_text(encoding="utf-8")) or {}
        names = ("contacts_modified", "orders_created", "orders_modified", "products_snapshot")
        profile["cadences"] = {**profile.get("cadences", {}), **dict.fromkeys(names, _CADENCE)}
        profile["windows"] = {**profile.get("windows", {}), "lag_seconds": 1}
        path = self._folder / "profile.yaml"
        path.write_text(yaml.safe_dump(profile), encoding="utf-8")
        return path

    def add(self, name: str) -> None:
        """Start one more process."""
        service = name.partition("-")[0]
        environment = {
            **os.environ,
            **self.environment,
            "INSTANCE_ID": name,
            "DATA_DIR": str(self._folder / f"{name}-files"),
        }
        command = [sys.executable, "-m", "extractor.webhooks" if service == "webhooks" else service]
        self.supervisor.add(name, command, environment, self._folder / f"{name}.log")

    def remove(self, name: str) -> None:
        """End a process for good."""
        stop(self.supervisor.remove(name), _GRACE)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process, if it lives."""
        process = self.supervisor.process(name)
        if process.alive():
            os.kill(process.pid, number)

    @property
    def extra(self) -> bool:
        """Whether the process that comes and goes is there."""
        return self.supervisor.has(EXTRA[0])

    def tell_account(self, **request: Any) -> None:  # noqa: ANN401 - JSON
        """Ask the sandbox Dotdigital for faults."""
        _post(f"{self.account_url}/sandbox/faults", request)

    def tell_shop(self, **faults: Any) -> None:  # noqa: ANN401 - JSON
        """Ask the sandbox shop for faults; none, for none."""
        _post(f"{self.shop_url}/sandbox/faults", faults)

    def edit(self, **edits: Any) -> None:  # noqa: ANN401 - JSON
        """Do what people do in the back office. Where no record fits, nothing happens."""
        httpx.post(f"{self.shop_url}/sandbox/edit", content=json.dumps(edits), timeout=60)


def _post(url: str, body: dict[str, Any]) -> None:
    httpx.post(url, content=json.dumps(body), timeout=60).raise_for_status()
