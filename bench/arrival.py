"""`python -m bench.arrival`: how long a new order takes from the shop's webhook to Dotdigital, idle and beside a backfill."""

import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from bench.installation import Installation, Terms
from bench.page import RESULTS, words_given, write_section
from bench.soak import Run, Traffic
from bench.soak_page import Plan, arrivals
from estarsync_core.clock import Clock
from estarsync_core.errors import ConfigurationError, EstarsyncError, Stop
from estarsync_runtime.clock import SystemClock
from sandbox.kafka import broker

_ORDERS = {"order": 1}


def play(at: Installation, run: Run, rate: float, seconds: float, clock: Clock) -> None:
    """Load the shop; place orders while nothing else happens, while all orders are read again, and while all are sent again.

    Raises:
        Stop: a service has ended, or an order has not arrived.
        TimeoutError: a phase takes too long.
    """
    at.run()
    run.phase("hooks", lambda: at.ready("webhooks"), None)
    run.phase("first load", at.finished, None)
    end = clock.monotonic() + seconds
    run.phase("idle", lambda: clock.monotonic() >= end, Traffic(rate, _ORDERS, clock.monotonic()))
    again = ("--entity", "orders", "--all", "--force", "--yes")
    run.command("backfill of all orders", ("backfill", *again), Traffic(rate, _ORDERS, clock.monotonic()))
    run.command("resync of all orders", ("resync", *again), Traffic(rate, _ORDERS, clock.monotonic()))
    run.phase("its end", at.finished, None)
    found, placed = sum(map(len, at.arrivals().values())), len(at.edits.placed)
    if found != placed:
        raise Stop(f"{placed - found} of {placed} new orders have not arrived")


def report(
    found: Mapping[str, Sequence[tuple[float, float]]],
    terms: Terms,
    rate: float,
    records: int,
    facts: Mapping[str, str],
) -> str:
    """The result as Markdown, without its heading."""
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("confluent-kafka", "httpx", "estarsync-loader")
    )
    return _PAGE.format(
        rows="\n".join(arrivals(found)), terms=terms, rate=rate, records=records, versions=versions,
        load=os.getloadavg()[0], cores=os.cpu_count(), python=platform.python_version(), **facts,
    )  # fmt: skip


_PAGE = """Written by `{command}`.

| new order to Dotdigital, s | orders | accepted p50 | p95 | p99 | worst | written p50 | written p99 |
|---|---|---|---|---|---|---|---|
{rows}

The goal: accepted within 5 s when idle and within 10 s beside a backfill, 99 times of 100.

Method: a shop of {records:,} orders is loaded; then {rate:g} new orders a second are placed in it, and it tells of each by webhook. The time runs from
before the shop is told to place the order: its own work and its webhook are in it. *Accepted* is the moment when Dotdigital answered the import that
holds the order, *written* when that import put it in place, both by the account's own ledger. The orders' shoppers are known customers. The
account allows {terms.low} imports a minute; an import takes {terms.seconds:g} s and {terms.each:g} s for each record. *Backfill* is `estarsync
backfill --entity orders --all --force`: the shop is read again, and everything travels the whole way; *resync* sends every payload again.

The load average at the end was {load:.1f} on {cores} cores; well above the number of cores, other work took turns and times are rough.

Broker: {broker}, on the same machine. CPython {python}; {versions}.
"""


def main(
    orders: Annotated[int, typer.Option(min=1, help="In the shop, at least.")] = 5_000,
    rate: Annotated[float, typer.Option(help="New orders a second.")] = 2.0,
    idle: Annotated[float, typer.Option(help="Seconds of them while nothing else happens.")] = 120.0,
    low: Annotated[int, typer.Option(help="Imports a minute that the account allows.")] = 120,
    seconds: Annotated[float, typer.Option(help="An import takes.")] = 1.0,
    each: Annotated[float, typer.Option(help="And for each record.")] = 0.0002,
    limit: Annotated[float, typer.Option(help="Seconds for each phase.")] = 3600.0,
    seed: Annotated[int, typer.Option(help="Of the shop and the edits.")] = 1,
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = RESULTS,
) -> None:
    """Measure on a real Kafka; takes minutes."""

    def say(line: str) -> None:
        typer.echo(line, err=True)

    words = words_given()
    command = f'make bench-arrival BENCH_ARGS="{words}"' if words else "make bench-arrival"
    terms = Terms((max(1, orders // 2), max(1, orders // 10), orders), low, seconds, each, 9999, seed)
    plan = Plan(live=0, rate=0, burst=0, burst_every=0, trickle=0, sample=1.0, limit=limit)
    clock = SystemClock()
    try:
        with broker(say, real=True) as kafka, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            installation = Installation(stack, kafka.bootstrap, Path(folder), terms, clock, say)
            play(installation, Run(installation, plan, terms, clock, say), rate, idle, clock)
            records = installation.shop_stats()["records"]["orders"] - len(installation.edits.placed)
            facts = {"broker": kafka.description, "command": command}
            page = report(installation.arrivals(), terms, rate, records, facts)
            write_section(out, "From the shop to Dotdigital", page)
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
