"""The transformer's section of RESULTS.md."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import version

from bench.contestants import BARE, MISSING, OURS, PEERS, Contestant
from bench.measure import Run, median
from bench.transformer import Result


def report(result: Result, broker: str, command: str) -> str:
    """The result as Markdown, without its heading."""
    everyone = [BARE, OURS, *PEERS]
    base = median([run.cpu for run in result.runs[BARE.name]])
    rows = [_row(each, result.runs[each.name], base) for each in everyone if each.name in result.runs]
    rows += [
        f"| {each.title} | {each.guarantee} | not run: {result.absent[each.name]} | | | |"
        for each in everyone
        if each.name in result.absent
    ]
    rows += [f"| {name} | | {why} | | | |" for name, why in MISSING.items()]
    versions = ", ".join(
        f"{name} {version(name)}"
        for name in ("confluent-kafka", "fastavro", "msgspec", "estarsync-transformer")
    )
    measured = [each for each in everyone if each.name in result.runs]
    return _PAGE.format(
        rows="\n".join(rows),
        settings="\n".join(f"- **{each.title}**: {each.settings}." for each in measured),
        figures="\n".join(_figures(result)),
        records=result.records,
        size=result.bytes_each,
        rounds=len(result.runs[BARE.name]),
        checked=result.checked,
        broker=broker,
        versions=versions,
        python=platform.python_version(),
        command=command,
        load=os.getloadavg()[0],
        cores=os.cpu_count(),
    )


def _row(each: Contestant, runs: list[Run], base: float) -> str:
    cpu = median([run.cpu for run in runs])
    spread = f"{min(run.cpu for run in runs):.2f}-{max(run.cpu for run in runs):.2f}"
    rate, rss = median([run.rate for run in runs]), max(run.rss for run in runs)
    return f"| {each.title} | {each.guarantee} | {cpu:.2f} ({spread}) | {cpu / base:.2f} | {rate:,.0f} | {rss:.0f} |"


def _figures(result: Result) -> Iterator[str]:
    ours = result.runs[OURS.name]
    cpu, rate = median([run.cpu for run in ours]), median([run.rate for run in ours])
    growth = max(run.growth for run in ours)
    yield (
        f"- **Memory**: after a quarter of {result.records:,} records to their end it grew by {growth:.1f} MiB at most."
    )
    if result.pair is not None:
        pair = result.pair
        yield (
            f"- **A second process** of one group: {pair.rate / rate:.2f} times the records/s ({pair.rate:,.0f}),"
            f" {pair.cpu / cpu:.2f} times the CPU per record. Broker, reader and both share {os.cpu_count()} cores."
        )
    fresh = result.freshness
    if fresh is not None:
        yield (
            f"- **From raw to typed** at {fresh.pace} records a second ({fresh.records:,} of them, from `produce` to a reader of"
            f" committed records): median {fresh.median:.0f} ms, p99 {fresh.p99:.0f} ms, worst {fresh.worst:.0f} ms."
        )


_PAGE = """Written by `{command}`.

| contestant | guarantee in this set-up | CPU s / 100,000 (range) | ratio | records/s | peak RSS, MiB |
|---|---|---|---|---|---|
{rows}

{settings}

{figures}

Method: {records:,} orders of {size:,.0f} bytes (four lines, seeded) in six partitions, {rounds} runs of each, in turn, each a
process of its own that reads everything from the beginning (the peers for a minute at most); median. All but the transformer do
the bare loop's work (`bench/work.py`), each peer in an environment of its own (`bench/peers`). CPU is user and system time of
all threads from the first tenth of the records (10,000 at most) to the last one, so that imports and joining the group are left
out; RSS is the process's peak (VmHWM). {checked:,} bodies of one partition were compared: the transformer's and the bare
loop's are the same. Bare loop and transformer have the same linger; the bare loop's librdkafka queues are the larger.

The load average at the end was {load:.1f} on {cores} cores; well above the number of cores, other work took turns and ratios are rough.

Broker: {broker}. CPython {python}; {versions}.
"""
