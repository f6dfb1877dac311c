"""`python -m bench.reconcile`: how long a reconcile takes beside the bare read-back, and how much memory.

What Dotdigital's own answers and its quota take is measured in the same run: the same pages, by the same client, and
nothing done with them. Some records are made to differ, so that a run which compares nothing would be found out.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
import typer
from confluent_kafka import Producer
from prometheus_client import CollectorRegistry

from bench.account import LIST_ID
from bench.measure import cpu_seconds, peak_mib
from bench.page import RESULTS, write_section
from bench.typed import Typed
from estarsync_core.clock import Clock
from estarsync_core.dotdigital.payloads import contact_entry
from estarsync_core.errors import ConfigurationError
from estarsync_core.topics import DELIVERED, DELIVERIES, declared_topics, typed_topic
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.dotdigital.client import DotdigitalClient
from estarsync_runtime.dotdigital.readback import read_contacts
from estarsync_runtime.kafka.admin import apply_topics
from estarsync_runtime.metrics import Metrics
from sandbox.kafka import broker

_PAGE_SIZE = 5000
_TIMEOUT = 60.0
_LOOK_SECONDS = 0.1
_AT = "2026-01-02T00:00:00.000Z"
_DIFFERENT, _MISSING, _EXTRA = 1000, 1500, 2000  # every so many-th
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Terms:
    """What is read.

    Attributes:
        contacts: how many are expected.
        low: pages a minute that the account allows.
        seconds: a page takes.
        attempts: in the loader's history, for each contact.
        seed: of the records.
    """

    contacts: int
    low: int
    seconds: float
    attempts: int
    seed: int


@dataclass(slots=True)
class Result:
    """What came of it.

    Attributes:
        pages: read back.
        bare: seconds for the pages alone.
        elapsed: seconds for the command, from its start to its end.
        cpu: its CPU seconds.
        rss: its peak, MiB.
        rejected: calls over the quota.
        trace: seconds for `estarsync trace` of one contact.
        found: what it printed of contacts.
    """

    pages: int = 0
    bare: float = 0.0
    elapsed: float = 0.0
    cpu: float = 0.0
    rss: float = 0.0
    rejected: int = 0
    trace: float = 0.0
    found: dict[str, Any] = field(default_factory=dict)


class Bench:
    """One set of topics, one account."""

    def __init__(self, bootstrap: str, terms: Terms, clock: Clock, folder: Path, say: Say) -> None:
        self._prefix = f"bench-{uuid.uuid4().hex[:6]}."
        self._bootstrap, self._terms, self._clock, self._say = bootstrap, terms, clock, say
        self._pages = folder / "pages"
        self._pages.mkdir()
        self._spill = folder / "spill"
        self._spill.mkdir()

    def run(self) -> Result:
        """All of it; blocks for minutes."""
        apply_topics({"bootstrap.servers": self._bootstrap}, declared_topics(), self._prefix, 1, _TIMEOUT)
        result = Result(pages=self._fill())
        self._say(f"{self._terms.contacts:,} contacts published, {result.pages} pages")
        with self._account() as url:
            result.bare = self._bare(url)
        self._say(f"bare read-back: {result.bare:.1f} s")
        with self._account() as url:
            self._reconcile(url, result)
            result.rejected = int(httpx.get(f"{url}/bench/rejected", timeout=_TIMEOUT).text)
        self._say(f"reconcile: {result.elapsed:.1f} s, {result.rss:.0f} MiB")
        result.trace = self._trace()
        return result

    @contextmanager
    def _account(self) -> Iterator[str]:
        terms = self._terms
        command = [
            sys.executable,
            "-m",
            "bench.account",
            "--pages",
            str(self._pages),
            "--low",
            str(terms.low),
        ]
        command += ["--seconds", str(terms.seconds)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
            try:
                assert process.stdout is not None  # noqa: S101 - it is a pipe
                yield process.stdout.readline().strip()
            finally:
                process.terminate()
                process.wait(30)

    def _fill(self) -> int:
        """Publish the contacts and what the loader would have written of them, and write the account's pages."""
        producer = Producer(
            {"bootstrap.servers": self._bootstrap, "partitioner": "murmur2_random", "compression.type": "lz4"}
        )
        codec, items, pages = AvroCodec(), list[dict[str, Any]](), 0
        records = Typed(self._terms.seed).contacts(self._terms.contacts)
        for number, (entity, key, value, headers, _) in enumerate(records, 1):
            self._produce(producer, typed_topic(entity), key, value, headers)
            row = {"sequence": number, "revision": 1, "hash": "", "outcome": "delivered", "there": True}
            row["at"] = _AT
            name = f"{entity}:{key}"
            self._produce(producer, DELIVERED, name, msgspec.json.encode(row), [])
            for attempt in range(self._terms.attempts):
                tried = {
                    **row,
                    "batch": f"contacts-{number // 5000}-{attempt}",
                    "import_id": None,
                    "code": "",
                }
                self._produce(producer, DELIVERIES, name, msgspec.json.encode(tried), [])
            fields = contact_entry(codec.decode(entity, value), LIST_ID)["dataFields"]
            items += _held(number, key, fields)
            if len(items) >= _PAGE_SIZE:
                self._write_page(pages, items[:_PAGE_SIZE], last=False)
                pages, items = pages + 1, items[_PAGE_SIZE:]
        self._write_page(pages, items, last=True)
        producer.flush()
        return pages + 1

    def _write_page(self, number: int, items: list[dict[str, Any]], *, last: bool) -> None:
        links = {} if last else {"next": {"marker": str(number + 1)}}
        (self._pages / str(number)).write_bytes(msgspec.json.encode({"_items": items, "_links": links}))

    def _produce(self, producer: Producer, topic: str, key: str, value: bytes, headers: Any) -> None:  # noqa: ANN401 - confluent's
        while True:
            try:
                producer.produce(self._prefix + topic, value, key, headers=[*headers])
            except BufferError:
                producer.poll(0.1)
            else:
                return

    def _bare(self, url: str) -> float:
        """Seconds for the pages, which are decoded and dropped."""
        http = httpx.Client(base_url=url, timeout=_TIMEOUT)
        with DotdigitalClient(http, self._clock, Metrics(CollectorRegistry())) as client:
            begun = self._clock.monotonic()
            for _ in read_contacts(client, LIST_ID):
                pass
            return self._clock.monotonic() - begun

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": self._bootstrap, "TOPIC_PREFIX": self._prefix}

    def _trace(self) -> float:
        """Seconds for one contact's story, from the command's start to its end."""
        command = [sys.executable, "-m", "estarsync_cli", "trace", "shopper.0@mail.example", "--json"]
        begun = self._clock.monotonic()
        done = subprocess.run(command, env=self._environment(), capture_output=True, check=True)  # noqa: S603 - our own
        elapsed = self._clock.monotonic() - begun
        told = sum(event["what"] == "attempt" for event in json.loads(done.stdout)[0]["events"])
        if told != self._terms.attempts:
            raise ValueError(f"trace tells of {told} attempts, and there were {self._terms.attempts}")
        return elapsed

    def _reconcile(self, url: str, result: Result) -> None:
        env = {
            **self._environment(),
            "DOTDIGITAL_URL": url,
            "DOTDIGITAL_ENDPOINT": url,
            "DOTDIGITAL_USERNAME": "bench",
            "DOTDIGITAL_PASSWORD": "bench",
            "DOTDIGITAL_QUOTA_SHARE": "1.0",
            "TMPDIR": str(self._spill),
        }
        command = [sys.executable, "-m", "estarsync_cli", "reconcile", "--entity", "contacts", "--json"]
        begun = self._clock.monotonic()
        with tempfile.TemporaryFile() as out:
            with subprocess.Popen(command, env=env, stdout=out) as process:  # noqa: S603 - our own
                while process.poll() is None:
                    self._look(process.pid, result)
                    self._clock.sleep(_LOOK_SECONDS)
            result.elapsed = self._clock.monotonic() - begun
            out.seek(0)
            text = out.read()
        if not text:
            raise TimeoutError(f"the command ended with code {process.returncode} and said nothing")
        result.found = json.loads(text)["contacts"]
        self._check(result.found)

    @staticmethod
    def _look(pid: int, result: Result) -> None:
        try:
            result.cpu, result.rss = cpu_seconds(pid), peak_mib(pid)
        except (OSError, StopIteration):
            return  # it is just over

    def _check(self, found: dict[str, Any]) -> None:
        count = self._terms.contacts
        missing, extra = count // _MISSING, count // _EXTRA
        different = sum(n % _MISSING != 0 for n in range(_DIFFERENT, count + 1, _DIFFERENT))
        wanted = {
            "agree": count - missing - different,
            "different": different,
            "missing": missing,
            "extra": extra,
        }
        actual = {name: found[name] for name in wanted}
        if actual != wanted:
            raise ValueError(f"reconcile found {actual}, and there are {wanted}")


def _held(number: int, email: str, fields: dict[str, Any]) -> list[dict[str, Any]]:
    """What the account holds for the expected contact of this number: mostly the same."""
    items = []
    if number % _EXTRA == 0:
        items.append({"identifiers": {"email": f"extra.{number}@mail.example"}, "dataFields": {}})
    if number % _MISSING:
        held = {**fields, "FIRSTNAME": "Spoilt"} if number % _DIFFERENT == 0 else fields
        items.append({"identifiers": {"email": email}, "dataFields": held})
    return items


_PAGE = """Written by `make bench-reconcile`.

| contacts | pages | bare read-back, s | reconcile, s | ratio | CPU, s | peak RSS, MiB | calls over the quota |
|---|---|---|---|---|---|---|---|
| {terms.contacts:,} | {result.pages} | {result.bare:.1f} | {result.elapsed:.1f} | {ratio:.2f} | {result.cpu:.1f} | {result.rss:.0f} | {result.rejected} |

`estarsync trace` of one contact, among {total:,} attempts to deliver: {result.trace:.1f} s.

It found {found[different]:,} different, {found[missing]:,} missing and {found[extra]:,} extra, which is what was made.

Method: the typed topic and the loader's own (real Kafka) are filled, and the account's pages, of 5,000 contacts with all
data fields, lie ready on the disk of a process of its own, which allows {terms.low} of them a minute and takes {terms.seconds:g} s for each. Every
{d:,}th contact differs there, every {m:,}th is missing, and for every {e:,}th there is one that nobody expects. *Bare* is the same
client following the same pages and dropping them: what Dotdigital and its quota take. *Reconcile* is the command as it
ships, from its start to its end: reading the topics, the pages, comparing. CPU is user and system time of
all threads, the peak is VmHWM of that process.

The load average at the end was {load:.1f} on {cores} cores; well above the number of cores, other work took turns and times are rough.

Broker: {broker}, on the same machine. CPython {python}; {versions}.
"""


def report(result: Result, terms: Terms, described: str) -> str:
    """The result as a section of the page."""
    names = ("confluent-kafka", "httpx", "msgspec", "estarsync-cli")
    return _PAGE.format(
        terms=terms, result=result, found=result.found, ratio=result.elapsed / result.bare, d=_DIFFERENT, m=_MISSING,
        e=_EXTRA, load=os.getloadavg()[0], cores=os.cpu_count(), broker=described, python=platform.python_version(),
        total=terms.contacts * terms.attempts, versions=", ".join(f"{name} {version(name)}" for name in names),
    )  # fmt: skip


def main(
    contacts: Annotated[int, typer.Option(help="Contacts that are expected.")] = 1_000_000,
    low: Annotated[int, typer.Option(help="Pages a minute that the account allows.")] = 35,
    seconds: Annotated[float, typer.Option(help="A page takes.")] = 0.5,
    attempts: Annotated[int, typer.Option(help="To deliver each contact, in the loader's history.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the records.")] = 1,
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = RESULTS,
) -> None:
    """Measure on a real Kafka; takes minutes."""

    def say(line: str) -> None:
        typer.echo(line, err=True)

    terms = Terms(contacts, low, seconds, attempts, seed)
    try:
        with broker(say, real=True) as kafka, tempfile.TemporaryDirectory() as folder:
            result = Bench(kafka.bootstrap, terms, SystemClock(), Path(folder), say).run()
            write_section(out, "Reconcile", report(result, terms, kafka.description))
    except ConfigurationError as error:
        for problem in error.problems:
            say(problem)
        sys.exit(2)
    say(f"written: {out}")


if __name__ == "__main__":
    typer.run(main)
