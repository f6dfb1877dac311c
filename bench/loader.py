"""`python -m bench.loader`: the loader against the sandbox Dotdigital, by the sandbox's own ledger.

How many calls a first load takes and how many it would take at least; how long it takes and how long the quota, the
slots and the imports' own time would take; what a live record waits for, idle and in the middle of it; and the memory.
"""

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from confluent_kafka import Producer

from bench.measure import peak_mib, worker
from bench.page import RESULTS, write_section
from bench.typed import Record, Typed
from estarsync_core.clock import Clock
from estarsync_core.entities import Entity, Lane
from estarsync_core.errors import ConfigurationError
from estarsync_core.topics import declared_topics, typed_topic
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.admin import apply_topics
from sandbox.dotdigital.options import Options
from sandbox.kafka import broker
from sandbox.processes import free_port

_BODY = 45_000_000
_TIMEOUT = 60.0
_LOOK_SECONDS = 0.5
_LIVE_SECONDS = 1.0
_LIVE = "live."
_STATUS = "GET /{}/v3/import/{{importId}}"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Terms:
    """What the account allows, and what the load is.

    Attributes:
        low: imports a minute.
        seconds: an import takes.
        each: and for each record.
        slots: for contacts and for Insight imports, as the loader is told.
    """

    contacts: int
    orders: int
    live: int
    low: int
    seconds: float
    each: float
    slots: tuple[int, int]
    seed: int
    limit: float


@dataclass(slots=True)
class Load:
    """One first load.

    Attributes:
        least: imports that would do.
        made: imports that were made, without those of live records.
        asked: questions for their reports.
        elapsed: seconds from the start of the loader's process to the last write.
        bound: the least seconds that quota, slots and import times allow for the least imports.
        live: seconds that live records waited while it ran, once the backlog was read.
        before: the same, while it was still being read.
    """

    name: str
    records: int
    size: int
    least: int = 0
    made: int = 0
    asked: int = 0
    elapsed: float = 0.0
    bound: float = 0.0
    read: float = 0.0
    rss: float = 0.0
    live: list[float] = field(default_factory=list)
    before: list[float] = field(default_factory=list)


class Bench:
    """One account, one set of topics, one loader at a time."""

    def __init__(self, bootstrap: str, terms: Terms, clock: Clock, folder: Path, say: Say) -> None:
        self._prefix = f"bench-{uuid.uuid4().hex[:6]}."
        self._bootstrap, self._terms, self._clock, self._folder, self._say = (
            bootstrap,
            terms,
            clock,
            folder,
            say,
        )
        self._typed = Typed(terms.seed)
        self._ledger = folder / "ledger.jsonl"
        self._http = httpx.Client(timeout=_TIMEOUT)
        self._url = ""
        self._published: dict[str, float] = {}
        self.idle: list[float] = []
        self.over = 0
        self.violations: dict[str, int] = {}
        self.sandbox_rss = 0.0

    def run(self) -> list[Load]:
        """All of it; blocks for minutes, or for hours with a million records."""
        apply_topics({"bootstrap.servers": self._bootstrap}, declared_topics(), self._prefix, 1, _TIMEOUT)
        with self._sandbox() as pid:
            terms = self._terms
            loads = [self._contacts()] if terms.contacts else []
            if terms.orders:
                loads.append(self._orders())
            summary = self._get("summary")
            self.over = sum(summary["calls"]["rejected"].values())
            self.violations = summary["violations"]
            self.sandbox_rss = peak_mib(pid)
        return loads

    @contextmanager
    def _sandbox(self) -> Iterator[int]:
        terms, port = self._terms, free_port()
        command = [sys.executable, "-m", "sandbox", "dotdigital", "serve", "--port", str(port)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603 - our own
            try:
                self._url = f"http://127.0.0.1:{port}"
                self._wait("the sandbox", lambda: self._answers("options"), 60)
                options = {
                    "limits": {"low": terms.low, "medium": 600, "high": 600},
                    "import_seconds": terms.seconds,
                    "import_seconds_per_record": terms.each,
                    "import_shuffle": 0.0,
                    "keep_writes": 1,
                    "ledger_path": str(self._ledger),
                }
                self._http.post(f"{self._url}/sandbox/reset", json=options).raise_for_status()
                yield process.pid
            finally:
                process.terminate()
                process.wait(30)

    @contextmanager
    def _loader(self) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        port, options = free_port(), Options()
        env = {
            "KAFKA_BOOTSTRAP_SERVERS": self._bootstrap,
            "TOPIC_PREFIX": self._prefix,
            "INSTANCE_ID": "bench",
            "DOTDIGITAL_URL": self._url,
            "DOTDIGITAL_USERNAME": options.username,
            "DOTDIGITAL_PASSWORD": options.password,
            "DOTDIGITAL_QUOTA_SHARE": "1.0",
            "LOADER_CONTACT_SLOTS": str(self._terms.slots[0]),
            "LOADER_INSIGHT_SLOTS": str(self._terms.slots[1]),
            "DATA_DIR": str(self._folder / "loader"),
            "HTTP_PORT": str(port),
            "LOG_LEVEL": "WARNING",
        }
        with worker("loader", env) as process:
            yield process, port

    def _contacts(self) -> Load:
        load = self._publish("contacts", self._typed.contacts(self._terms.contacts))
        with self._loader() as (process, port):
            self._drive(load, Entity.CONTACTS, process, port, live=self._terms.live)
            for number in range(self._terms.live):
                self._publish_live(f"{_LIVE}idle.{number}@mail.example")
                self._clock.sleep(_LIVE_SECONDS)
            self._wait("live records", lambda: self._written() >= load.records + len(self._published), 120)
            load.rss = peak_mib(process.pid)
        waited = self._waited()
        self.idle = [seconds for key, seconds in waited.items() if key.startswith(f"{_LIVE}idle")]
        for key, seconds in waited.items():
            if key.startswith(f"{_LIVE}bulk"):
                (load.live if self._published[key] >= load.read else load.before).append(seconds)
        return load

    def _orders(self) -> Load:
        terms = self._terms
        load = self._publish("orders", self._typed.orders(terms.orders, max(1, terms.contacts)))
        with self._loader() as (process, port):
            self._drive(load, Entity.ORDERS, process, port, live=0)
            load.rss = peak_mib(process.pid)
        return load

    def _drive(
        self, load: Load, entity: Entity, process: subprocess.Popen[bytes], port: int, *, live: int
    ) -> None:
        """Watch a first load to its end, and publish live records meanwhile."""
        begun, before = self._clock.now().timestamp(), self._written()
        target, number = before + load.records, 0
        deadline = self._clock.monotonic() + self._terms.limit
        next_live = self._clock.monotonic() + _LIVE_SECONDS
        while (written := self._written()) < target + number:
            if process.poll() is not None:
                raise TimeoutError(f"the loader ended with code {process.returncode}")
            if self._clock.monotonic() > deadline:
                raise TimeoutError(f"{written - before:,} of {load.records:,} after {self._terms.limit:g} s")
            taken = 0.0 if load.read else self._taken(port, entity)
            if not taken and not load.read:
                next_live = self._clock.monotonic() + _LIVE_SECONDS
            if taken >= load.records:
                load.read = self._clock.now().timestamp()
                self._say(f"{load.name}: read after {load.read - begun:,.0f} s")
            if live and written < target and self._clock.monotonic() >= next_live:
                self._publish_live(f"{_LIVE}bulk.{number}@mail.example")
                number, next_live = number + 1, self._clock.monotonic() + _LIVE_SECONDS
            self._clock.sleep(_LOOK_SECONDS)
        self._account_for(load, entity, begun)
        self._say(
            f"{load.name}: {load.made} imports for {load.least}, {load.elapsed:,.0f} s for {load.bound:,.0f} s"
        )

    def _account_for(self, load: Load, entity: Entity, begun: float) -> None:
        """Calls and times, from the sandbox's ledger."""
        service = "contacts" if entity is Entity.CONTACTS else "insightData"
        calls = [line for line in self._calls() if line["time"] >= begun]
        live = {line["import_id"] for line in self._lines(_LIVE)}
        puts = [c for c in calls if c["method"] == "PUT" and c["status"] == httpx.codes.ACCEPTED]
        load.made = sum(c["import_id"] not in live for c in puts)
        load.asked = sum(f"{c['method']} {c['path']}" == _STATUS.format(service) for c in calls)
        load.elapsed = self._last_write() - begun
        terms = self._terms
        load.least = math.ceil(load.size / _BODY)
        slots = max(1, terms.slots[entity is not Entity.CONTACTS] - 1)  # one is kept for live records
        rounds = math.ceil(load.least / slots)
        longest = terms.seconds + terms.each * load.records / load.least
        load.bound = max(rounds * longest, (load.least - 1) * 60 / terms.low + longest)

    def _publish(self, name: str, records: Iterator[Record]) -> Load:
        producer, count, size = self._producer(), 0, 0
        for entity, key, value, headers, body in records:
            self._produce(producer, entity, key, value, headers)
            count, size = count + 1, size + body
        producer.flush()
        self._say(f"{count:,} {name} published, {size / max(1, count):,.0f} bytes each in a body")
        return Load(name, count, size)

    def _publish_live(self, email: str) -> None:
        producer = self._producer()
        entity, key, value, headers, _ = self._typed.contact(email, Lane.LIVE)
        self._published[email] = self._clock.now().timestamp()
        self._produce(producer, entity, key, value, headers)
        producer.flush()

    def _producer(self) -> Producer:
        return Producer(
            {"bootstrap.servers": self._bootstrap, "partitioner": "murmur2_random", "compression.type": "lz4"}
        )

    def _produce(self, producer: Producer, entity: Entity, key: str, value: bytes, headers: Any) -> None:  # noqa: ANN401 - confluent's
        while True:
            try:
                producer.produce(self._prefix + typed_topic(entity), value, key, headers=[*headers])
            except BufferError:
                producer.poll(0.1)
            else:
                return

    def _waited(self) -> dict[str, float]:
        """For each live record, the seconds from its publication to the import that Dotdigital has accepted."""
        accepted = {call["import_id"]: call["time"] for call in self._calls() if call["import_id"]}
        first: dict[str, float] = {}
        for line in self._lines(_LIVE):
            first.setdefault(line["key"], accepted[line["import_id"]])
        return {key: first[key] - at for key, at in self._published.items()}

    def _calls(self) -> list[dict[str, Any]]:
        answer = self._http.get(f"{self._url}/sandbox/ledger", params={"kind": "calls"})
        return [json.loads(line) for line in answer.text.splitlines()]

    def _lines(self, word: str) -> Iterator[dict[str, Any]]:
        """Writes in the ledger whose line has the word."""
        self._get("summary")
        with self._ledger.open("rb") as lines:
            for line in lines:
                if word.encode() in line and line.endswith(b"}\n"):
                    yield json.loads(line)

    def _last_write(self) -> float:
        return float(self._get("summary")["last_write"])

    def _written(self) -> int:
        return sum(self._get("summary")["writes"].values())

    def _taken(self, port: int, entity: Entity) -> float:
        """How many records the loader has read: those that wait, and those that are settled."""
        try:
            text = self._http.get(f"http://127.0.0.1:{port}/metrics").text
        except httpx.HTTPError:
            return 0
        names = ("estarsync_loader_pending_records{", "estarsync_loader_records_total{")
        rows = [row for row in text.splitlines() if row.startswith(names) and f'entity="{entity}"' in row]
        return sum(float(row.rpartition(" ")[2]) for row in rows)

    def _get(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._http.get(f"{self._url}/sandbox/{name}").raise_for_status().json()
        return found

    def _answers(self, name: str) -> bool:
        try:
            self._get(name)
        except httpx.HTTPError:
            return False
        return True

    def _wait(self, what: str, done: Callable[[], bool], seconds: float) -> None:
        deadline = self._clock.monotonic() + seconds
        while not done():
            if self._clock.monotonic() > deadline:
                raise TimeoutError(f"{what}: not there after {seconds:g} s")
            self._clock.sleep(_LOOK_SECONDS)


def percentile(values: Sequence[float], share: float) -> str:
    """In seconds; a dash where there are none."""
    if not values:
        return "-"
    ordered = sorted(values)
    return f"{ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]:.1f}"


def report(bench: Bench, loads: Sequence[Load], terms: Terms, described: Mapping[str, str]) -> str:
    """The result as a section of the page."""
    rows = [
        f"| {load.records:,} {load.name} | {load.made} / {load.least} = {load.made / load.least:.2f} | {load.asked}"
        f" | {load.elapsed:,.0f} / {load.bound:,.0f} = {load.elapsed / load.bound:.2f} | {load.rss:.0f} |"
        for load in loads
    ]
    waits = [("idle", bench.idle)]
    for load in loads[:1]:
        waits += [("during the bulk delivery", load.live), ("while its backlog was being read", load.before)]
    live = [
        f"| {name} | {len(values)} | {percentile(values, 0.5)} | {percentile(values, 0.99)} |"
        for name, values in waits
    ]
    return _PAGE.format(
        rows="\n".join(rows), live="\n".join(live), over=bench.over, sandbox=bench.sandbox_rss, terms=terms,
        violations=bench.violations or "none", contact_slots=terms.slots[0], insight_slots=terms.slots[1],
        versions=", ".join(f"{name} {version(name)}" for name in ("confluent-kafka", "httpx", "msgspec", "estarsync-loader")),
        python=platform.python_version(), cores=os.cpu_count(), **described,
    )  # fmt: skip


_PAGE = """Written by `{command}`.

| first load | imports / least | questions | seconds / bound | peak RSS, MiB |
|---|---|---|---|---|
{rows}

| live record to accepted import, s | records | p50 | p99 |
|---|---|---|---|
{live}

Calls over the quota: {over}. What the account saw that should not have been: {violations}.

Method: everything but the memory is counted by the sandbox Dotdigital, a process of its own, in its ledger. Terms: {terms.low}
imports a minute for everything together, an import takes {terms.seconds:g} s and {terms.each:g} s for each record, {contact_slots} slots for
contacts and {insight_slots} for Insight data of which the loader keeps one each for live records. The typed topics (real Kafka) are filled before
the loader starts; seconds run from the start of its process to the last write, reading and all. *Least* is the bytes of all
records over 45 MB. *Bound* is the longest of: the least imports of equal size, one after the other in the slots; the least imports
at the quota's pace, and the last one's time. *Questions* are calls for an import's status; they are of another tier. A live contact
is published every second from when the loader has begun to read; it is accepted when the import that holds it is answered with 202. RSS is VmHWM of the loader; that of the sandbox
was {sandbox:.0f} MiB.

Broker: {broker}, on the same machine ({cores} cores). CPython {python}; {versions}.
"""


def main(
    contacts: Annotated[int, typer.Option(help="Contacts of the first load.")] = 150_000,
    orders: Annotated[int, typer.Option(help="Orders of the first load.")] = 50_000,
    live: Annotated[
        int, typer.Option(help="Live contacts when idle, and whether there are any meanwhile.")
    ] = 30,
    low: Annotated[int, typer.Option(help="Imports a minute that the account allows.")] = 60,
    seconds: Annotated[float, typer.Option(help="An import takes.")] = 2.0,
    each: Annotated[float, typer.Option(help="And for each record.")] = 0.002,
    contact_slots: Annotated[int, typer.Option(help="The loader's share of 25.")] = 8,
    insight_slots: Annotated[int, typer.Option(help="The loader's share of 5.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the records.")] = 1,
    limit: Annotated[float, typer.Option(help="Seconds for each load before it is given up.")] = 7200.0,
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = RESULTS,
) -> None:
    """Measure on a real Kafka; takes minutes."""

    def say(line: str) -> None:
        typer.echo(line, err=True)

    terms = Terms(contacts, orders, live, low, seconds, each, (contact_slots, insight_slots), seed, limit)
    try:
        with broker(say, real=True) as kafka, tempfile.TemporaryDirectory() as folder:
            bench = Bench(kafka.bootstrap, terms, SystemClock(), Path(folder), say)
            loads = bench.run()
            described = {"broker": kafka.description, "command": "make bench-loader"}
            write_section(out, "Loader", report(bench, loads, terms, described))
    except ConfigurationError as error:
        for problem in error.problems:
            say(problem)
        sys.exit(2)
    say(f"written: {out}")


if __name__ == "__main__":
    typer.run(main)
