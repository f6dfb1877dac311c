"""The demo: broker, both twins and the three services as processes, from nothing to the proof."""

import os
import re
import secrets
import shutil
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import msgspec
from prometheus_client import CollectorRegistry
from rich.console import Console

from estarsync_core.clock import Clock
from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError, Stop
from estarsync_core.topics import declared_topics
from estarsync_runtime.dotdigital.connect import DotdigitalSettings
from estarsync_runtime.kafka.admin import apply_topics
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import KafkaSettings
from sandbox.demo import proof as proofs
from sandbox.demo.ends import Ends, finished
from sandbox.demo.progress import Display, Step, scrape
from sandbox.estar import profile_path
from sandbox.kafka import Broker, broker
from sandbox.kafka.mock import create_topics
from sandbox.kafka.removal import remove
from sandbox.processes import Process, Supervisor, free_port, start, stop

SERVICES = ("extractor", "transformer", "loader")
_TURN = 0.5
_GRACE = 15.0
_READY_SECONDS = 60.0
_MOCK_SIZE = 100
_MORE = "for more, start Docker, install a JDK 17 or later with Maven, or set KAFKA_BOOTSTRAP_SERVERS"
_NEXT = (
    "Try next:",
    "  make demo DATA=path.csv.gz   a real shop's invoices",
    "  make demo LIMITS=basic       Dotdigital's smallest package, 35 import calls a minute",
    "  kill -9 a service while the demo runs",
    "README.md says what to read after that.",
)
_READY = re.compile(r"on (http://\S+)")


@dataclass(frozen=True, slots=True)
class Options:
    """What to load, and where to leave things.

    Attributes:
        data: an Online Retail CSV file; None for a generated shop.
        size: customers of the generated shop; None for a fitting one.
        seed: of everything random.
        limits: the account's quota, `generous` or `basic`.
        report: where the report goes.
        logs: the folder for the processes' logs.
    """

    data: Path | None
    size: int | None
    seed: int
    limits: str
    report: Path
    logs: Path


class Demo:
    """One run; everything that it starts ends with it.

    Args:
        options: see `Options`.
        clock: the time.
        console: for people.
    """

    def __init__(self, options: Options, clock: Clock, console: Console) -> None:
        self._options = options
        self._clock = clock
        self._console = console
        self._stack = ExitStack()
        self._http = httpx.Client()
        self._restarts = 0
        self._peaks: dict[str, float] = {}

    def run(self) -> bool:
        """Do everything; true where the shop and Dotdigital agree. Blocks until it is done.

        Raises:
            ConfigurationError: something that it needs is missing or wrong.
            Stop: a service could not be kept running.
        """
        began = self._clock.monotonic()
        shutil.rmtree(self._options.logs, ignore_errors=True)
        self._options.logs.mkdir(parents=True)
        with self._stack:
            with Display(self._clock, self._console) as display:
                credentials = _credentials()
                # The shop comes first where it reads a file: what is wrong in it is known before a broker starts.
                shop = self._shop(credentials, None, display) if self._options.data else None
                found = self._stack.enter_context(broker(display.say))
                size = self._size(found)
                shop = shop or self._shop(credentials, size, display)
                settings = self._environment(found, shop, credentials, display)
                ready = self._clock.monotonic()
                self._sync(settings, display)
            synced = self._clock.monotonic()
            result = self._prove(settings)
            proved = self._clock.monotonic()
            proofs.show(result, self._console)
            summary = self._account(settings, "summary")
            self._say_what_the_account_saw(summary)
            document = {
                **result.document(),
                "dotdigital": {
                    "calls": summary["calls"]["total"],
                    "rejected_calls": sum(summary["calls"]["rejected"].values()),
                    "violations": summary["violations"],
                    "mails_to_shoppers": summary["mails_to_shoppers"],
                },
                "durations_seconds": {
                    "preparation": round(ready - began, 1),
                    "sync": round(synced - ready, 1),
                    "reconcile": round(proved - synced, 1),
                },
                "broker": {"kind": found.kind, "description": found.description},
                "restarts": self._restarts,
                "peak_rss_mib": self._peaks,
            }
            self._options.report.write_bytes(
                msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
            )
        self._say_the_end(result, round(synced - ready, 1))
        return result.in_agreement

    def _size(self, found: Broker) -> int | None:
        """Customers of a generated shop, fitting the broker; None for the shop's own default."""
        size = self._options.size
        if found.real:
            return size
        if self._options.data is not None or (size or 0) > _MOCK_SIZE:
            raise ConfigurationError(
                [f"the development broker in memory takes up to {_MOCK_SIZE} generated customers: {_MORE}"]
            )
        return size or _MOCK_SIZE

    def _shop(self, credentials: Mapping[str, str], size: int | None, display: Display) -> str:
        """Start the sandbox shop; its address."""
        arguments = ["shop", "serve", "--seed", str(self._options.seed)]
        if self._options.data is not None:
            arguments += ["--data", str(self._options.data)]
        elif size is not None:
            arguments += ["--size", str(size)]
        return self._twin("shop", arguments, credentials, display)

    def _environment(
        self, found: Broker, shop: str, credentials: Mapping[str, str], display: Display
    ) -> dict[str, str]:
        """Start the sandbox Dotdigital and create the topics; the services' environment."""
        arguments = [
            "dotdigital",
            "serve",
            "--seed",
            str(self._options.seed),
            "--limits",
            self._options.limits,
        ]
        account = self._twin("dotdigital", arguments, credentials, display)
        # On somebody's own cluster the demo's topics must not meet others.
        prefix = f"demo-{secrets.token_hex(3)}." if found.kind == "given" else ""
        if found.real:
            if prefix:
                self._stack.callback(self._clean_up, found.bootstrap, prefix)
            apply_topics(
                {"bootstrap.servers": found.bootstrap}, declared_topics(), prefix, replication=1, timeout=30.0
            )
        else:
            create_topics(found.bootstrap, [topic.name for topic in declared_topics()])
        return {
            **credentials,
            "KAFKA_BOOTSTRAP_SERVERS": found.bootstrap,
            "TOPIC_PREFIX": prefix,
            "TENANT_PROFILE": str(profile_path()),
            "ESTAR_BASE_URL": shop,
            "DOTDIGITAL_URL": account,
        }

    def _clean_up(self, bootstrap: str, prefix: str) -> None:
        """Leave somebody's own cluster as it was, and say so where that can't be done."""
        for line in remove(bootstrap, prefix, self._clock):
            self._console.print(f"left behind, {line}", highlight=False, markup=False, soft_wrap=True)

    def _twin(self, name: str, arguments: list[str], credentials: Mapping[str, str], display: Display) -> str:
        """Start a sandbox twin and wait until it says where it is."""
        log = self._options.logs / f"{name}.log"
        process = start(
            name, [sys.executable, "-m", "sandbox", *arguments], {**os.environ, **credentials}, log
        )
        self._stack.callback(stop, process, _GRACE)
        deadline = self._clock.monotonic() + _READY_SECONDS
        while self._clock.monotonic() < deadline:
            text = log.read_text(encoding="utf-8", errors="replace")
            if ready := _READY.search(text):
                display.say(text[: ready.end()].splitlines()[-1])
                return ready.group(1)
            if not process.alive():
                raise ConfigurationError(text.strip().splitlines() or [f"the {name} ended without a word"])
            self._clock.sleep(0.05)
        raise Stop(f"the {name} did not start within {_READY_SECONDS:.0f} s: see {log}")

    def _sync(self, settings: Mapping[str, str], display: Display) -> None:
        """Run the services until everything that the shop has is settled at Dotdigital."""
        supervisor = Supervisor(self._clock, lambda line: self._notice(line, display))
        self._stack.callback(supervisor.stop, _GRACE)
        folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="estarsync-demo-")))
        ports = {}
        for name in SERVICES:
            ports[name] = free_port()
            environment = {
                **os.environ,
                **settings,
                "HTTP_PORT": str(ports[name]),
                "DATA_DIR": str(folder / name),
                "INSTANCE_ID": f"{name}-0",
                "LOG_LEVEL": "INFO",
            }
            argv = [sys.executable, "-m", name]
            process = supervisor.add(name, argv, environment, self._options.logs / f"{name}.log")
            display.say(f"{name} runs as process {process.pid}")
        truth = proofs.fetch_truth(self._http, settings["ESTAR_BASE_URL"])
        ends = Ends(self._kafka_settings(settings))
        self._stack.callback(ends.close)
        while True:
            supervisor.check()
            if supervisor.given_up:
                raise Stop("; ".join(f"{name}: {why}" for name, why in supervisor.given_up.items()))
            metrics = {name: scrape(self._http, f"http://127.0.0.1:{port}") for name, port in ports.items()}
            for name in SERVICES:
                self._watch_memory(name, supervisor.process(name))
            display.show(_steps(truth, self._account(settings, "state")))
            if finished(metrics, ends):
                return
            self._clock.sleep(_TURN)

    def _notice(self, line: str, display: Display) -> None:
        self._restarts += 1
        display.say(line)

    def _account(self, settings: Mapping[str, str], what: str) -> dict[str, Any]:
        """What the sandbox Dotdigital says of itself."""
        answer = self._http.get(f"{settings['DOTDIGITAL_URL']}/sandbox/{what}", timeout=30)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def _prove(self, settings: Mapping[str, str]) -> proofs.Proof:
        self._say("reading Dotdigital back …")
        truth = proofs.fetch_truth(self._http, settings["ESTAR_BASE_URL"])
        account = DotdigitalSettings.model_validate(
            {name.lower(): value for name, value in settings.items() if name.startswith("DOTDIGITAL_")}
        )
        metrics = Metrics(CollectorRegistry())
        return proofs.prove(truth, self._kafka_settings(settings), account, self._clock, metrics)

    def _kafka_settings(self, settings: Mapping[str, str]) -> KafkaSettings:
        return KafkaSettings(
            kafka_bootstrap_servers=settings["KAFKA_BOOTSTRAP_SERVERS"], topic_prefix=settings["TOPIC_PREFIX"]
        )

    def _watch_memory(self, name: str, process: Process) -> None:
        """Keep each service's highest memory, where the system tells (Linux)."""
        try:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        except OSError:
            return
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        if peak:
            self._peaks[name] = max(self._peaks.get(name, 0), round(int(peak.group(1)) / 1024, 1))

    def _say_what_the_account_saw(self, summary: dict[str, Any]) -> None:
        """The other side's word on how it was treated."""
        rejected = sum(summary["calls"]["rejected"].values())
        violations = sum(summary["violations"].values())
        self._say(f"Dotdigital's own ledger: {summary['calls']['total']:,} calls, {rejected} over the quota,")
        self._say(f"{violations} violations (a consent touched, a key in two open imports)")

    def _say_the_end(self, result: proofs.Proof, seconds: float) -> None:
        self._say(f"synced in {seconds} s; the report is in {self._options.report}")
        if not result.in_agreement:
            self._say(f"The two sides do NOT agree. The services' logs are in {self._options.logs}/.")
            return
        self._console.print("The shop and Dotdigital agree.", style="bold green")
        for line in _NEXT:
            self._say(line)

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _credentials() -> dict[str, str]:
    return {
        "ESTAR_USERNAME": "demo",
        "ESTAR_PASSWORD": secrets.token_urlsafe(12),
        "DOTDIGITAL_USERNAME": "demo@apiconnector.com",
        "DOTDIGITAL_PASSWORD": secrets.token_urlsafe(12),
    }


def _steps(truth: dict[str, Any], held: dict[str, Any]) -> list[Step]:
    """How much of what the shop has is at Dotdigital, by the account's own count: a restart doesn't reset it."""
    collections = {row["collectionType"]: row["recordCount"] for row in held.get("collections", ())}
    counts = {
        Entity.CONTACTS: held.get("contacts", 0),
        Entity.PRODUCTS: collections.get("catalog", 0),
        Entity.ORDERS: collections.get("orders", 0),
    }
    return [Step(entity, int(counts[entity]), len(truth[entity]["expected"])) for entity in Entity]
