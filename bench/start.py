"""`python -m bench.start`: how long each service takes from the start of its process until it is ready."""

import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from confluent_kafka import Consumer, TopicPartition

from bench.installation import SERVICES, Installation, Terms
from bench.measure import median
from bench.page import RESULTS, words_given, write_section
from estarsync_core.clock import Clock
from estarsync_core.errors import ConfigurationError, EstarsyncError, Stop
from estarsync_core.topics import CONTROL
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.config import consumer_config
from sandbox.kafka import broker

_LOOK = 0.005
_TURN = 0.5
_LIMIT = 120.0
_JOINS = ("extractor", "loader")  # whose readiness waits for a group: one of them leads
_CASES = ("first start", "again", "again, its files lost")


@dataclass(frozen=True, slots=True)
class Start:
    """One start: seconds from the process's start until it says that it is ready, and its CPU seconds till then."""

    seconds: float
    cpu: float


class Bench:
    """Starts each service alone, several times.

    Args:
        at: an installation of which nothing runs.
        clock: the time.
        say: takes lines for people.
    """

    def __init__(self, at: Installation, clock: Clock, say: Callable[[str], None]) -> None:
        self._at, self._clock, self._say = at, clock, say
        self.joins: list[float] = []
        self.starts: dict[tuple[str, str], list[Start]] = {}

    def run(self, rounds: int, limit: float) -> None:
        """Before there is anything, then with a loaded shop behind it; blocks for minutes.

        Raises:
            Stop: a service ends instead.
            TimeoutError: the first load takes longer than the limit.
        """
        for number in range(rounds):
            self.joins.append(self._join(number))
            self._each(_CASES[0], forget=True)
        self._at.run()
        for _ in self._at.until("the first load", self._at.finished, limit):
            self._clock.sleep(_TURN)
        self._at.end()
        for number in range(rounds):
            self.joins.append(self._join(rounds + number))
            self._each(_CASES[1], forget=False)
        for _ in range(rounds):
            self._each(_CASES[2], forget=True)

    def _each(self, case: str, *, forget: bool) -> None:
        for name in SERVICES:
            if forget:
                self._at.end(name, forget=True)
            start = self._start(name)
            self.starts.setdefault((name, case), []).append(start)
            self._say(f"{name}, {case}: {start.seconds:.2f} s, {start.cpu:.2f} s of CPU")

    def _start(self, name: str) -> Start:
        began = self._clock.monotonic()
        self._at.run(name)
        while not self._at.ready(name):
            self._at.check()
            if self._clock.monotonic() > began + _LIMIT:
                raise Stop(f"{name} is not ready after {_LIMIT:g} s")
            self._clock.sleep(_LOOK)
        seconds, cpu = self._clock.monotonic() - began, self._at.cpu(name)
        self._at.end(name)
        return Start(seconds, cpu or 0.0)

    def _join(self, number: int) -> float:
        """What a bare member of a new group waits for its partitions, with our settings."""
        settings = self._at.kafka
        given: list[TopicPartition] = []

        def assigned(_: Consumer, partitions: list[TopicPartition]) -> None:
            given.extend(partitions)

        began = self._clock.monotonic()
        consumer = Consumer(consumer_config(settings, f"bench-join-{number}"))
        consumer.subscribe([settings.topic(CONTROL)], on_assign=assigned)
        while not given:
            if self._clock.monotonic() > began + _LIMIT:
                raise Stop(f"no partitions after {_LIMIT:g} s")
            consumer.poll(_LOOK)
        joined = self._clock.monotonic() - began
        consumer.close()
        return joined


def report(
    starts: Mapping[tuple[str, str], Sequence[Start]],
    joins: Sequence[float],
    records: int,
    facts: Mapping[str, str],
) -> str:
    """The result as Markdown, without its heading."""
    join = median(joins)
    rows = []
    for (name, case), found in starts.items():
        seconds, cpu = median([one.seconds for one in found]), median([one.cpu for one in found])
        beyond = f"{seconds - join:.2f}" if name in _JOINS else f"{seconds:.2f}"
        worst = max(one.seconds for one in found)
        rows.append(f"| {name} | {case} | {seconds:.2f} | {worst:.2f} | {beyond} | {cpu:.2f} |")
    versions = ", ".join(f"{name} {version(name)}" for name in ("confluent-kafka", "estarsync-loader"))
    return _PAGE.format(
        rows="\n".join(rows), join=join, rounds=len(joins) // 2, records=records, versions=versions,
        load=os.getloadavg()[0], cores=os.cpu_count(), python=platform.python_version(), **facts,
    )  # fmt: skip


_PAGE = """Written by `{command}`.

| service | | ready after, s | worst | beyond Kafka's own join, s | CPU s |
|---|---|---|---|---|---|
{rows}

Method: each service is started alone, {rounds} times a case; median. The clock runs from the start of its process, imports and all, until
`/readyz` answers 200. *First start* is on empty topics; *again* after a first load of {records:,} records, with its files or without them:
then the extractor and the loader read from Kafka what they need to know. Extractor and loader are ready once their group has made one of them
the leader, and the loader once it has looked at the account's data fields, list and collections. *Kafka's own join* is what a bare consumer of a
new group waits for its partitions here: {join:.2f} s. CPU is user and system time of all threads till then.

The load average at the end was {load:.1f} on {cores} cores; well above the number of cores, other work took turns and times are rough: then the CPU
seconds are the better measure.

Broker: {broker}, on the same machine. CPython {python}; {versions}.
"""


def main(
    records: Annotated[int, typer.Option(min=100, help="In the shop, about.")] = 20_000,
    rounds: Annotated[int, typer.Option(min=1, help="Starts of each service in each case.")] = 3,
    limit: Annotated[float, typer.Option(help="Seconds for the first load.")] = 3600.0,
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = RESULTS,
) -> None:
    """Measure on a real Kafka; takes minutes."""

    def say(line: str) -> None:
        typer.echo(line, err=True)

    words = words_given()
    command = f'make bench-start BENCH_ARGS="{words}"' if words else "make bench-start"
    counts = (max(1, records * 2 // 5), max(1, records // 5), max(1, records * 2 // 5))
    terms = Terms(counts, low=6000, seconds=0.2, each=0.0001, contacts_minutes=9999, seed=1)
    clock = SystemClock()
    try:
        with broker(say, real=True) as kafka, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            installation = Installation(stack, kafka.bootstrap, Path(folder), terms, clock, say)
            bench = Bench(installation, clock, say)
            bench.run(rounds, limit)
            total = sum(
                installation.shop_stats()["records"][kind] for kind in ("customers", "products", "orders")
            )
            facts = {"broker": kafka.description, "command": command}
            write_section(out, "Start", report(bench.starts, bench.joins, total, facts))
    except ConfigurationError as error:
        for problem in error.problems:
            say(problem)
        sys.exit(2)
    except (EstarsyncError, TimeoutError) as error:
        say(str(error))
        sys.exit(1)
    say(f"written: {out}")


if __name__ == "__main__":
    typer.run(main)
