"""A whole installation to measure: shop, account and every service as a process each, on a real Kafka, seen from outside."""

import json
import os
import random
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from bench.measure import cpu_seconds, peak_mib, resident_mib
from estarsync_core.clock import Clock
from estarsync_core.entities import Entity
from estarsync_core.errors import Stop
from estarsync_core.topics import declared_topics
from estarsync_runtime.dotdigital.connect import DotdigitalSettings
from estarsync_runtime.kafka.admin import apply_topics
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import KafkaSettings
from sandbox.demo.ends import Ends, finished
from sandbox.demo.progress import Samples, scrape, total
from sandbox.demo.proof import Proof, fetch_truth, prove
from sandbox.dotdigital.options import Options
from sandbox.estar import profile_path
from sandbox.kafka.removal import remove
from sandbox.processes import Process, free_port, start, stop

SERVICES = {
    "extractor": "extractor",
    "webhooks": "extractor.webhooks",
    "transformer": "transformer",
    "loader": "loader",
}
"""What runs, and the module of each."""
_SECRET = "bench"  # noqa: S105 - both ends of it are made here
_READY = re.compile(r"on (http://\S+)")
_START_SECONDS = 120.0
_TRUTH_SECONDS = 1800.0
_GRACE = 20.0
_LOOK = 0.1
_FEW = 200  # records


@dataclass(frozen=True, slots=True)
class Terms:
    """What the shop holds and what the account allows.

    Attributes:
        counts: customers, products and orders, at least.
        low: imports a minute for everything.
        seconds: an import takes.
        each: and for each record.
        contacts_minutes: how often the shop is asked for changed customers; the rest is as the default profile says.
        seed: of the shop and the edits.
    """

    counts: tuple[int, int, int]
    low: int
    seconds: float
    each: float
    contacts_minutes: float
    seed: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A service at one moment: seconds of the clock, MiB resident, open file descriptors, CPU seconds so far."""

    at: float
    phase: str
    rss: float
    fds: int
    cpu: float


@dataclass(slots=True)
class Edits:
    """What was changed in the shop, by phase.

    Attributes:
        made: how many edits of any kind.
        placed: new orders: id, phase, and the Unix time just before the shop was told to place it.
    """

    made: dict[str, int] = field(default_factory=dict)
    placed: list[tuple[int, str, float]] = field(default_factory=list)


class Installation:
    """Everything runs once this is made, but the services, which `run` starts; all of it ends with `stack`.

    Args:
        stack: ends what was started.
        bootstrap: of a real Kafka.
        folder: for logs and files.
        terms: see there.
        clock: the time.
        say: takes lines for people.
    """

    def __init__(
        self,
        stack: ExitStack,
        bootstrap: str,
        folder: Path,
        terms: Terms,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self._stack, self._folder, self._clock, self._say, self._terms = stack, folder, clock, say, terms
        prefix = f"bench-{uuid.uuid4().hex[:6]}."
        self.kafka = KafkaSettings(kafka_bootstrap_servers=bootstrap, topic_prefix=prefix)
        self.http = stack.enter_context(httpx.Client(timeout=60))
        self.processes: dict[str, Process] = {}
        self.samples: dict[str, list[Sample]] = {name: [] for name in SERVICES}
        self.edits = Edits()
        self._dice = random.Random(terms.seed)  # noqa: S311 - test data
        self._ports = {name: free_port() for name in SERVICES}
        self._ledger = folder / "ledger.jsonl"
        stack.callback(self._clean_up)
        config: dict[str, str | int | float | bool] = {"bootstrap.servers": bootstrap}
        apply_topics(config, declared_topics(), prefix, 1, 60.0)
        hooks, options = free_port(), Options()
        self.environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "TOPIC_PREFIX": prefix,
            "TENANT_PROFILE": str(self._profile()),
            "ESTAR_USERNAME": "sandbox",
            "ESTAR_PASSWORD": "sandbox",
            "ESTAR_WEBHOOK_SECRET": _SECRET,
            "WEBHOOK_PORT": str(hooks),
            "DOTDIGITAL_USERNAME": options.username,
            "DOTDIGITAL_PASSWORD": options.password,
        }
        hook = ["--webhook-url", f"http://127.0.0.1:{hooks}/"]
        self.shop = self._twin("shop", "--seed", str(terms.seed), "--counts", *map(str, terms.counts), *hook)
        self.account = self._twin("dotdigital")
        self.environment |= {"ESTAR_BASE_URL": self.shop, "DOTDIGITAL_URL": self.account}
        self._tell_account(
            limits={"low": terms.low, "medium": 600, "high": 600},
            import_seconds=terms.seconds,
            import_seconds_per_record=terms.each,
            keep_writes=1,
        )
        self._ends = Ends(self.kafka)
        stack.callback(self._ends.close)

    def _clean_up(self) -> None:
        settings = self.kafka
        for line in remove(settings.kafka_bootstrap_servers, settings.topic_prefix, self._clock):
            self._say(f"left behind, {line}")

    def _profile(self) -> Path:
        text = profile_path().read_text(encoding="utf-8")
        path = self._folder / "profile.yaml"
        path.write_text(
            f"{text}\ncadences: {{contacts_modified: {self._terms.contacts_minutes:g}}}\n", encoding="utf-8"
        )
        return path

    def _twin(self, name: str, *arguments: str) -> str:
        log = self._folder / f"{name}.log"
        command = [sys.executable, "-m", "sandbox", name, "serve", *arguments]
        process = start(name, command, self.environment, log)
        self.processes[name] = process
        self._stack.callback(stop, process, _GRACE)
        deadline = self._clock.monotonic() + _START_SECONDS
        while self._clock.monotonic() < deadline:
            if found := _READY.search(log.read_text(encoding="utf-8")):
                return found.group(1)
            if not process.alive():
                raise Stop(f"the {name} ended: {process.tail()}")
            self._clock.sleep(_LOOK)
        raise Stop(f"the {name} did not start within {_START_SECONDS:g} s")

    def run(self, *services: str) -> None:
        """Start services; all of them where none is named."""
        for name in services or SERVICES:
            more = {
                "HTTP_PORT": str(self._ports[name]),
                "DATA_DIR": str(self._folder / name),
                "INSTANCE_ID": f"{name}-0",
                "LOG_LEVEL": "WARNING",
            }
            command = [sys.executable, "-m", SERVICES[name]]
            log = self._folder / f"{name}.log"
            process = start(name, command, {**self.environment, **more}, log)
            self.processes[name] = process
            self._stack.callback(stop, process, _GRACE)

    def end(self, *services: str, forget: bool = False) -> None:
        """Stop services; all of them where none is named. `forget`: their files go, too."""
        for name in services or SERVICES:
            if name in self.processes:
                stop(self.processes.pop(name), _GRACE)
            if forget:
                shutil.rmtree(self._folder / name, ignore_errors=True)

    def command(self, *arguments: str) -> Process:
        """Start `estarsync` with these arguments."""
        log = self._folder / "estarsync.log"
        command = [sys.executable, "-m", "estarsync_cli", *arguments]
        process = start("estarsync", command, self.environment, log)
        self._stack.callback(stop, process, _GRACE)
        return process

    def check(self) -> None:
        """See that everything still runs.

        Raises:
            Stop: something has ended.
        """
        for name, process in self.processes.items():
            if not process.alive():
                raise Stop(f"{name} ended with exit code {process.returncode}: {process.tail()}")

    def sample(self, phase: str) -> None:
        """Note what each service takes now; nothing on a system without /proc."""
        now = self._clock.monotonic()
        for name, kept in self.samples.items():
            pid = self.processes[name].pid
            try:
                fds = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - the names are of no interest
                kept.append(Sample(now, phase, resident_mib(pid), fds, cpu_seconds(pid)))
            except (OSError, StopIteration):
                continue

    def peak(self, name: str) -> float | None:
        """A process's highest memory so far in MiB, where the system tells."""
        try:
            return peak_mib(self.processes[name].pid)
        except (OSError, StopIteration):
            return None

    def cpu(self, name: str) -> float | None:
        """CPU seconds of a process so far, where the system tells."""
        try:
            return cpu_seconds(self.processes[name].pid)
        except OSError:
            return None

    def ready(self, name: str) -> bool:
        """Whether a service says that it is ready."""
        try:
            return self.http.get(f"http://127.0.0.1:{self._ports[name]}/readyz").is_success
        except httpx.TransportError:
            return False

    def metrics(self, name: str) -> Samples:
        """What a service says of itself."""
        return scrape(self.http, f"http://127.0.0.1:{self._ports[name]}")

    def finished(self) -> bool:
        """Whether the first load is over and everything that was published is settled."""
        return finished(
            {name: self.metrics(name) for name in ("extractor", "transformer", "loader")}, self._ends
        )

    def mostly_finished(self) -> bool:
        """Whether the first load is over but for what comes at the moment: live records never let it quite end."""
        extractor, transformer, loader = (
            self.metrics(name) for name in ("extractor", "transformer", "loader")
        )
        if not (transformer and loader):
            return False
        loaded = total(extractor, "estarsync_extractor_first_load_done") == len(Entity)
        behind = [total(each, "estarsync_lag_records") for each in (transformer, loader)]
        waiting = total(loader, "estarsync_loader_pending_records", lane="bulk")
        return loaded and not waiting and max(behind) < _FEW

    def edit(self, phase: str, kinds: Sequence[str]) -> None:
        """Change the shop; it tells of each edit by webhook before it answers. Blocks until then."""
        at = self._clock.now().timestamp()
        body = {"seed": self._dice.randrange(10**9), "edits": [{"kind": kind} for kind in kinds]}
        answer = self.http.post(f"{self.shop}/sandbox/edit", content=json.dumps(body))
        done = answer.raise_for_status().json()["edits"]
        self.edits.made[phase] = self.edits.made.get(phase, 0) + len(done)
        self.edits.placed += [(edit["id"], phase, at) for edit in done if edit["kind"] == "order"]

    def arrivals(self) -> dict[str, list[tuple[float, float]]]:
        """By phase, for each new order: seconds to the accepted import that held it, and to Dotdigital's write.

        The word of the account's own ledger. An order that never arrived is not there.
        """
        self.summary()  # the ledger's file has every line after this
        wanted = {f"orders/{order}": (phase, at) for order, phase, at in self.edits.placed}
        first: dict[str, tuple[float, str]] = {}
        accepted: dict[str, float] = {}
        with self._ledger.open("rb") as lines:
            for line in lines:
                if line.startswith(b'{"line":"call"') and b'"PUT"' in line:
                    call = json.loads(line)
                    accepted[call["import_id"]] = call["time"]
                elif b'"key":"orders/' in line:
                    write = json.loads(line)
                    if (key := write["key"]) in wanted:
                        first.setdefault(key, (write["time"], write["import_id"]))
        found: dict[str, list[tuple[float, float]]] = {}
        for key, (phase, at) in wanted.items():
            if key in first:
                written, job = first[key]
                found.setdefault(phase, []).append((accepted[job] - at, written - at))
        return found

    def summary(self) -> dict[str, Any]:
        """What the account says of itself."""
        found: dict[str, Any] = self.http.get(f"{self.account}/sandbox/summary").raise_for_status().json()
        return found

    def shop_stats(self) -> dict[str, Any]:
        """What the shop says of itself."""
        found: dict[str, Any] = self.http.get(f"{self.shop}/sandbox/stats").raise_for_status().json()
        return found

    def prove(self) -> Proof:
        """Compare shop and account record by record, by their own words; the account's quota is lifted for it."""
        self._tell_account(reset=False, limits={"low": 6000, "medium": 6000, "high": 6000})
        truth = fetch_truth(self.http, self.shop, _TRUTH_SECONDS)
        names = {
            name.lower(): value for name, value in self.environment.items() if name.startswith("DOTDIGITAL_")
        }
        account = DotdigitalSettings.model_validate(names)
        return prove(truth, self.kafka, account, self._clock, Metrics(CollectorRegistry()))

    def _tell_account(self, *, reset: bool = True, **options: Any) -> None:  # noqa: ANN401 - JSON
        if reset:
            options["ledger_path"] = str(self._ledger)
        place = "reset" if reset else "options"
        self.http.post(f"{self.account}/sandbox/{place}", json=options).raise_for_status()

    def until(self, what: str, done: Callable[[], bool], seconds: float) -> Iterator[None]:
        """Turns of a loop that ends once `done`; everything must go on running meanwhile.

        Raises:
            TimeoutError: it lasts too long.
            Stop: something has ended.
        """
        deadline = self._clock.monotonic() + seconds
        while not done():
            self.check()
            if self._clock.monotonic() > deadline:
                raise TimeoutError(f"{what}: not over after {seconds:,.0f} s")
            yield


def since(moment: datetime) -> str:
    """A time as the command line takes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
