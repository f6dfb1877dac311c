"""The soak's section of RESULTS.md."""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from bench.installation import SERVICES, Edits, Sample, Terms
from bench.measure import median, percentile
from sandbox.demo.proof import Proof

_FEW = 3
_MOMENTS = (
    "first load",
    "live traffic",
    "resync of contacts",
    "resync of products",
    "resync of orders",
    "resync, to its end",
)
_LONG = 600.0  # seconds; less says nothing of an hour
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, and how much.

    Attributes:
        live: seconds of live traffic.
        rate: edits a second in it.
        burst: edits in one burst.
        burst_every: seconds.
        trickle: new orders a second while the first load and the resync run.
        sample: seconds between two looks at the processes.
        limit: seconds for each phase.
    """

    live: float
    rate: float
    burst: int
    burst_every: float
    trickle: float
    sample: float
    limit: float


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the run: how long it lasted, the edits made in it, the CPU seconds of each service."""

    name: str
    seconds: float
    edits: int
    cpu: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Soak:
    """What a run has shown.

    Attributes:
        phases: in order.
        records: the shop's, by kind, in the end.
        load: the first load.
        summary: the account's own before it was read back.
        shop_calls: that the shop had answered by then.
        violations: what the account saw that should not have been, to the very end.
        edits: what was changed.
        arrivals: by phase, seconds from a new order to its accepted import and to Dotdigital's write.
        samples: of each service.
        peaks: of each process, in MiB.
        proof: both sides compared in the end.
    """

    phases: Sequence[Phase]
    records: Mapping[str, int]
    load: Phase
    summary: Mapping[str, Any]
    shop_calls: int
    violations: Mapping[str, int]
    edits: Edits
    arrivals: Mapping[str, Sequence[tuple[float, float]]]
    samples: Mapping[str, Sequence[Sample]]
    peaks: Mapping[str, float | None]
    proof: Proof | None

    @property
    def over(self) -> int:
        """Calls over the quota."""
        return sum(self.summary["calls"]["rejected"].values())

    @property
    def held(self) -> bool:
        """Whether both sides agree, every new order has arrived, and the account saw nothing that should not be."""
        arrived = sum(map(len, self.arrivals.values()))
        agreed = self.proof is not None and self.proof.in_agreement
        return agreed and arrived == len(self.edits.placed) and not self.over and not self.violations


def report(soak: Soak, plan: Plan, terms: Terms, facts: Mapping[str, Any]) -> str:
    """The result as Markdown, without its heading."""
    absent = [] if any(soak.samples.values()) else ["/proc (so no memory, files and CPU)"]
    return _PAGE.format(
        verdict=_verdict(soak),
        phases="\n".join(_phases(soak)),
        arrivals="\n".join(arrivals(soak.arrivals)),
        processes="\n".join(_processes(soak)),
        agreement="\n".join(_agreement(soak.proof)),
        load=os.getloadavg()[0],
        cores=os.cpu_count(),
        shop=_mib(soak.peaks.get("shop")),
        account=_mib(soak.peaks.get("dotdigital")),
        shop_calls=soak.shop_calls,
        calls=soak.summary["calls"]["total"],
        imports=sum(soak.summary["jobs"]["accepted"].values()),
        over=soak.over,
        violations=soak.violations or "none",
        moments=" | ".join(_MOMENTS),
        dashes="---|" * len(_MOMENTS),
        absent=", ".join(absent) or "nothing",
        plan=plan,
        terms=terms,
        python=platform.python_version(),
        versions=", ".join(
            f"{name} {version(name)}" for name in ("confluent-kafka", "msgspec", "estarsync-loader")
        ),
        **soak.records,
        **facts,
    )


def _verdict(soak: Soak) -> str:
    missing = len(soak.edits.placed) - sum(map(len, soak.arrivals.values()))
    if soak.held:
        return "Both sides agree to the last record and cent, and every order that was placed meanwhile has arrived."
    return f"**NOT in order**: the two sides differ, or the quota or a rule was broken; {missing} new orders have not arrived."


def _phases(soak: Soak) -> Iterator[str]:
    for phase in soak.phases:
        if phase.name in {"hooks", "rest", "its end"}:
            continue
        cpu = " | ".join(_number(phase.cpu.get(name)) for name in SERVICES)
        yield f"| {phase.name} | {phase.seconds:,.0f} | {phase.edits:,} | {phase.edits / max(phase.seconds, 0.1):.1f} | {cpu} |"


def arrivals(found: Mapping[str, Sequence[tuple[float, float]]]) -> Iterator[str]:
    """A row for each phase: how many new orders, seconds to the accepted import, and to the write."""
    for phase, taken in found.items():
        accepted, written = [one for one, _ in taken], [one for _, one in taken]
        shares = " | ".join(f"{percentile(accepted, share):.1f}" for share in (0.5, 0.95, 0.99, 1.0))
        yield f"| {phase} | {len(taken):,} | {shares} | {percentile(written, 0.5):.1f} | {percentile(written, 0.99):.1f} |"


def _processes(soak: Soak) -> Iterator[str]:
    for name, samples in soak.samples.items():
        after = [each for each in samples if each.phase != soak.load.name]
        cells = [
            _mib(soak.peaks.get(name)),
            *(_mib(_last([each.rss for each in samples if each.phase == phase])) for phase in _MOMENTS),
            _mib(_last([each.rss for each in samples])),
            _slope(after),
            _mib(_last([each.fds for each in samples if each.phase == soak.load.name])),
            str(max((each.fds for each in samples), default="-")),
            str(samples[-1].fds if samples else "-"),
        ]
        yield f"| {name} | {' | '.join(cells)} |"


def _last(values: Sequence[float]) -> float | None:
    """What it was at the end: the median of the last few."""
    return median(values[-_FEW:]) if values else None


def _slope(samples: Sequence[Sample]) -> str:
    """MiB an hour, by least squares; a dash where it was not looked at for long enough."""
    if not samples or samples[-1].at - samples[0].at < _LONG:
        return "-"
    times, sizes = [each.at for each in samples], [each.rss for each in samples]
    middle, mean = sum(times) / len(times), sum(sizes) / len(sizes)
    spread = sum((time - middle) ** 2 for time in times)
    rise = sum((time - middle) * (size - mean) for time, size in zip(times, sizes, strict=True))
    return f"{rise / spread * _HOUR:+.1f}"


def _agreement(proof: Proof | None) -> Iterator[str]:
    for name, each in ({} if proof is None else proof.entities).items():
        letters, filtered = (proof.dead_letters[name].total(), proof.filtered[name]) if proof else (0, 0)
        yield f"| {name} | {each.agree:,} | {each.different} | {each.missing} | {each.extra} | {letters:,} | {filtered:,} |"
    if proof is not None:
        yield f"| revenue | {proof.revenue_shop:,.2f} in the shop | {proof.revenue_dotdigital:,.2f} at Dotdigital | | | | |"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


_PAGE = """Written by `{command}`.

{verdict}

| phase | seconds | edits in the shop | edits/s | CPU s: extractor | webhooks | transformer | loader |
|---|---|---|---|---|---|---|---|
{phases}

| new order to Dotdigital, s | orders | accepted p50 | p95 | p99 | worst | written p50 | written p99 |
|---|---|---|---|---|---|---|---|
{arrivals}

| process | peak RSS, MiB | at the end of: {moments} | in the end | slope after the first load, MiB/h | open files at its end | most | in the end |
|---|---|{dashes}---|---|---|---|---|
{processes}

| in the end | agree | different | missing | extra | dead letters | filtered |
|---|---|---|---|---|---|---|
{agreement}

Calls: {shop_calls:,} to the shop, {calls:,} to Dotdigital, {imports:,} of them imports; over the quota: {over}. What the account saw that should
not have been: {violations}. Parts of the machine that were missing: {absent}.

Method: a sandbox shop of {customers:,} customers, {products:,} products and {orders:,} orders in the end, dirt included (`sandbox shop serve
--counts`), a sandbox Dotdigital, and the four services as they ship are processes of their own on one real Kafka. The account allows
{terms.low} imports a minute for everything; an import takes {terms.seconds:g} s and {terms.each:g} s for each record. Customers are polled every
{terms.contacts_minutes:g} minutes; all else is the default profile's. Live traffic is {plan.rate:g} edits a second, and {plan.burst} at once every
{plan.burst_every:g} s: mostly new orders; returns, splits, voids, unsubscribes, prices, and one new e-mail in a hundred. The first load and the resync
(`estarsync resync --from raw --all --force`, each entity) have {plan.trickle:g} new order a second beside them. A new order's time runs from before the
shop is told to place it, so the shop's own work and its webhook, one after the other in a burst, are in it; *accepted* is the
moment when Dotdigital answered the import that holds it, *written* when that import put it in place; both are the account's own ledger's. In the end
`estarsync backfill` reads what only a poll tells of (prices, customers), and shop and account are compared record by record. Memory and files
are looked at every {plan.sample:g} s; growth is in MiB, from the median of the first tenth of the looks to that of the last (in the first load without its first
quarter). The twins grow with what they hold: the shop took {shop} MiB, the account {account} MiB.

The load average at the end was {load:.1f} on {cores} cores; well above the number of cores, other work took turns and times are rough.

Broker: {broker}, on the same machine. CPython {python}; {versions}.
"""
