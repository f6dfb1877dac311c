"""`python -m bench.growth`: the same first load for shops of several sizes, and what a thousand records cost."""

import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from bench.disk import disk_bytes
from bench.installation import SERVICES, Installation, Terms
from bench.page import RESULTS, words_given, write_section
from estarsync_core.clock import Clock
from estarsync_core.errors import ConfigurationError, EstarsyncError, Stop
from estarsync_runtime.clock import SystemClock
from sandbox.kafka import broker

_PARTS = (0.4, 0.2, 0.4)  # customers, products, orders
_TURN = 0.5
_SHOWN = [name for name in SERVICES if name != "webhooks"]


@dataclass(frozen=True, slots=True)
class Size:
    """One size's first load: of so many records, in how many seconds, with what CPU and memory of each service."""

    records: int
    seconds: float
    cpu: dict[str, float]
    start: dict[str, float]
    rss: dict[str, float]
    shop_calls: int
    calls: int
    imports: int
    over: int
    kinds: dict[str, int]
    disk: dict[str, int] | None


def first_load(
    bootstrap: str, records: int, terms: Terms, limit: float, clock: Clock, say: Callable[[str], None]
) -> Size:
    """Run one; blocks until both sides agree.

    Raises:
        Stop: a service has ended, or the two sides differ.
        TimeoutError: it takes longer than the limit.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        at = Installation(stack, bootstrap, Path(folder), terms, clock, say)
        began = clock.monotonic()
        at.run(*_SHOWN)
        start: dict[str, float] = {}
        for _ in at.until("the first load", at.finished, limit):
            for name in _SHOWN:
                if name not in start and at.ready(name):
                    start[name] = at.cpu(name) or 0.0
            clock.sleep(_TURN)
        seconds = clock.monotonic() - began
        cpu = {name: at.cpu(name) or 0.0 for name in _SHOWN}
        rss = {name: at.peak(name) or 0.0 for name in _SHOWN}
        summary, stats = at.summary(), at.shop_stats()
        if not at.prove().in_agreement:
            raise Stop(f"{records:,} records: the two sides differ, so this is not the work to be measured")
        say(f"{records:,} records: {seconds:,.0f} s")
        return Size(
            records=sum(stats["records"][kind] for kind in ("customers", "products", "orders")),
            seconds=seconds,
            cpu=cpu,
            start=start,
            rss=rss,
            shop_calls=sum(stats["calls"].values()),
            calls=summary["calls"]["total"],
            imports=sum(summary["jobs"]["accepted"].values()),
            over=sum(summary["calls"]["rejected"].values()),
            kinds=stats["records"],
            disk=disk_bytes(bootstrap, at.kafka.topic_prefix),
        )


def report(sizes: Sequence[Size], terms: Terms, command: str, described: str) -> str:
    """The result as Markdown, without its heading."""
    rows = []
    for size in sizes:
        each = [
            f"{(size.cpu[name] - size.start.get(name, 0.0)) / size.records * 1000:.2f}" for name in _SHOWN
        ]
        rss = [f"{size.rss[name]:.0f}" for name in _SHOWN]
        rows.append(
            f"| {size.records:,} | {size.seconds:,.0f} | {size.records / size.seconds:,.0f} | {' | '.join(each)}"
            f" | {' | '.join(rss)} | {size.shop_calls:,} | {size.imports:,} | {size.calls:,} |"
        )
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("confluent-kafka", "msgspec", "estarsync-loader")
    )
    return _PAGE.format(
        command=command, rows="\n".join(rows), disk="\n".join(_disk(sizes[-1])), terms=terms, over=sum(size.over for size in sizes), versions=versions,
        load=os.getloadavg()[0], cores=os.cpu_count(), broker=described, python=platform.python_version(),
        heads=" | ".join(_SHOWN), parts=" : ".join(f"{part * 10:.0f}" for part in _PARTS),
    )  # fmt: skip


def _disk(size: Size) -> Iterator[str]:
    """A row for each topic of the largest shop that holds something, the largest first."""
    if size.disk is None:
        yield "| not measured: it takes Java and Kafka's own tool (`make setup` brings it) | | | |"
        return
    of = {
        "contacts": size.kinds["customers"],
        "products": size.kinds["products"],
        "orders": size.kinds["orders"],
    }
    for topic, taken in sorted(size.disk.items(), key=lambda row: -row[1]):
        entity = next((name for name in of if name in topic.split(".")), None)
        count = size.records if entity is None else of[entity]
        if taken > size.records:  # a byte for each record: less is of no account
            yield f"| `{topic}` | {taken / 1024**2:,.1f} | {taken / count:,.0f} | {entity or 'all'} |"


_PAGE = """Written by `{command}`.

| records | seconds | records/s | CPU s per 1,000: {heads} | peak RSS, MiB: {heads} | calls to the shop | imports | calls to Dotdigital |
|---|---|---|---|---|---|---|---|---|---|---|---|
{rows}

A cost that grows with the records, and no faster, shows the same figure for a thousand in every row. Calls over the quota: {over}.

| topic, of the largest shop | MiB on disk | bytes for each record | of these |
|---|---|---|---|
{disk}

Method: as *Load and soak*, without its traffic: customers, products and orders as {parts}, each size on topics of its own, from the
services' start until everything that the shop has is settled at Dotdigital; then both sides are compared, and must agree. CPU is user
and system time of all threads from the moment when the service said that it was ready. Topics are as Kafka keeps them: compressed
(lz4), before compaction, one replica, read by Kafka's own `LogDirsCommand`. Products have one or two items each, and each item is a record at Dotdigital. The account allows {terms.low} imports a minute; an
import takes {terms.seconds:g} s and {terms.each:g} s for each record. RSS is VmHWM.

The load average at the end was {load:.1f} on {cores} cores; well above the number of cores, other work took turns and times are rough.

Broker: {broker}, on the same machine. CPython {python}; {versions}.
"""


def main(
    sizes: Annotated[str, typer.Option(help="Records of each shop, with commas.")] = "10000,30000,100000",
    low: Annotated[int, typer.Option(help="Imports a minute that the account allows.")] = 120,
    seconds: Annotated[float, typer.Option(help="An import takes.")] = 1.0,
    each: Annotated[float, typer.Option(help="And for each record.")] = 0.0002,
    limit: Annotated[float, typer.Option(help="Seconds for each size.")] = 7200.0,
    seed: Annotated[int, typer.Option(help="Of the shops.")] = 1,
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = RESULTS,
) -> None:
    """Measure on a real Kafka; takes minutes."""

    def say(line: str) -> None:
        typer.echo(line, err=True)

    words = words_given()
    command = f'make bench-growth BENCH_ARGS="{words}"' if words else "make bench-growth"
    terms = Terms((1, 1, 1), low, seconds, each, 9999, seed)
    found: list[Size] = []
    try:
        with broker(say, real=True) as kafka:
            for count in (int(word) for word in sizes.split(",")):
                customers, products, orders = (max(1, int(count * part)) for part in _PARTS)
                shop = replace(terms, counts=(customers, products, orders))
                found.append(first_load(kafka.bootstrap, count, shop, limit, SystemClock(), say))
            write_section(out, "Growth", report(found, terms, command, kafka.description))
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
