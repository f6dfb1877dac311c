"""`python -m bench.soak`: a first load, live traffic with bursts, a full resync; in the end both sides must agree."""

import random
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.installation import SERVICES, Installation, Terms, since
from bench.page import RESULTS, words_given, write_section
from bench.soak_page import Phase, Plan, Soak, report
from estarsync_core.clock import Clock
from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError, EstarsyncError, Stop
from estarsync_runtime.clock import SystemClock
from sandbox.kafka import broker

_TURN = 0.05
_AT_ONCE = 25  # edits in one request to the shop, bursts aside
_LOOK = 2.0
_CALM = 10.0
_TRIES = 6
_MIX = {"order": 120, "void": 20, "return": 20, "split": 10, "unsubscribe": 20, "price": 10, "email": 2}


@dataclass(slots=True)
class Traffic:
    """Edits that are due, of some kinds, at a rate, from a moment on.

    Attributes:
        rate: edits a second.
        mix: the kinds, with their weights.
        began: that moment, of the monotonic clock.
        sent: how many have been made.
        next_burst: when many come at once.
    """

    rate: float
    mix: dict[str, int]
    began: float
    sent: int = 0
    next_burst: float = field(default=float("inf"))

    def due(self, now: float, dice: random.Random) -> list[str]:
        """The kinds of the edits that are due by now; they count as made."""
        count = min(_AT_ONCE, int((now - self.began) * self.rate) - self.sent)
        if count <= 0:
            return []
        self.sent += count
        return dice.choices(list(self.mix), list(self.mix.values()), k=count)


class Run:
    """One run.

    Args:
        installation: not started.
        plan: see there.
        terms: of the installation, for its seed.
        clock: the time.
        say: takes lines for people.
    """

    def __init__(
        self, installation: Installation, plan: Plan, terms: Terms, clock: Clock, say: Callable[[str], None]
    ) -> None:
        self._at, self._plan, self._clock, self._say = installation, plan, clock, say
        self._dice = random.Random(terms.seed)  # noqa: S311 - test data
        self._next_sample = self._next_look = 0.0
        self.phases: list[Phase] = []

    def play(self) -> Soak:
        """All of it, from the services' start to the proof; blocks for as long as that takes.

        Raises:
            Stop: a service has ended, or a command failed.
            TimeoutError: a phase takes longer than the limit.
        """
        began = self._clock.now()
        self._at.run()
        self.phase("hooks", lambda: self._at.ready("webhooks"), None)
        self.phase("first load", self._at.mostly_finished, self._trickle())
        load = self.phases[-1]
        self.phase("first load, to its end", self._at.finished, None)
        end = self._clock.monotonic() + self._plan.live
        self.phase("live traffic", lambda: self._clock.monotonic() >= end, self._live())
        self.phase("live traffic, to its end", self._at.finished, None)
        for entity in Entity:
            words = ("resync", "--entity", entity, "--from", "raw", "--all", "--force", "--yes")
            self.command(f"resync of {entity}", words, self._trickle())
        self.phase("resync, to its end", self._at.finished, None)
        self._read_again(began)
        proof = None
        summary, shop_calls = self._at.summary(), sum(self._at.shop_stats()["calls"].values())
        for _ in range(_TRIES):
            self._rest()
            self.phase("its end", self._at.finished, None)
            proof = self._at.prove()
            if proof.in_agreement:
                break
            self._say("they do not agree yet")
        return Soak(
            phases=self.phases,
            records=self._at.shop_stats()["records"],
            load=load,
            summary=summary,
            shop_calls=shop_calls,
            violations=self._at.summary()["violations"],
            edits=self._at.edits,
            arrivals=self._at.arrivals(),
            samples=self._at.samples,
            peaks={name: self._at.peak(name) for name in self._at.processes},
            proof=proof,
        )

    def _read_again(self, began: datetime) -> None:
        """Fetch what only a poll of the shop tells of: changed prices, and customers since the last poll."""
        moment = since(began)
        self.command(
            "backfill of contacts", ("backfill", "--entity", "contacts", "--since", moment, "--yes"), None
        )
        self.command("backfill of products", ("backfill", "--entity", "products", "--all", "--yes"), None)
        self.command(
            "backfill of orders", ("backfill", "--entity", "orders", "--since", moment, "--yes"), None
        )

    def _trickle(self) -> Traffic | None:
        plan = self._plan
        return Traffic(plan.trickle, {"order": 1}, self._clock.monotonic()) if plan.trickle else None

    def _live(self) -> Traffic:
        now, plan = self._clock.monotonic(), self._plan
        return Traffic(plan.rate, _MIX, now, next_burst=now + plan.burst_every)

    def command(self, phase: str, words: tuple[str, ...], traffic: Traffic | None) -> None:
        """Run `estarsync` to its end, as a phase.

        Raises:
            Stop: it fails.
        """
        process = self._at.command(*words)
        self.phase(phase, lambda: not process.alive(), traffic)
        if process.returncode != 0:
            raise Stop(
                f"estarsync {' '.join(words)} ended with exit code {process.returncode}: {process.tail()}"
            )

    def _rest(self) -> None:
        end = self._clock.monotonic() + _CALM
        self.phase("rest", lambda: self._clock.monotonic() >= end, None)

    def phase(self, phase: str, done: Callable[[], bool], traffic: Traffic | None) -> None:
        """Look at everything, and edit the shop, until something holds."""
        began, cpu = self._clock.monotonic(), self._cpu()
        for _ in self._at.until(phase, lambda: self._looked(done), self._plan.limit):
            now = self._clock.monotonic()
            if now >= self._next_sample:
                self._at.sample(phase)
                self._next_sample = now + self._plan.sample
            if traffic is not None:
                self._edit(phase, traffic, now)
            self._clock.sleep(_TURN)
        lasted = self._clock.monotonic() - began
        after = self._cpu()
        used = {name: after[name] - cpu[name] for name in after if name in cpu}
        self.phases.append(Phase(phase, lasted, self._at.edits.made.get(phase, 0), used))
        self._say(f"{phase}: {lasted:,.0f} s")

    def _cpu(self) -> dict[str, float]:
        found = {name: self._at.cpu(name) for name in SERVICES if name in self._at.processes}
        return {name: seconds for name, seconds in found.items() if seconds is not None}

    def _edit(self, phase: str, traffic: Traffic, now: float) -> None:
        if now >= traffic.next_burst:
            traffic.next_burst = now + self._plan.burst_every
            kinds = self._dice.choices(list(traffic.mix), list(traffic.mix.values()), k=self._plan.burst)
            self._at.edit(phase, kinds)
        elif kinds := traffic.due(now, self._dice):
            self._at.edit(phase, kinds)

    def _looked(self, done: Callable[[], bool]) -> bool:
        """Asking costs the services something: not at every turn."""
        now = self._clock.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + _LOOK
        return done()


def main(
    contacts: Annotated[int, typer.Option(min=1, help="In the shop, at least.")] = 10_000,
    products: Annotated[int, typer.Option(min=1, help="In the shop, at least.")] = 2_000,
    orders: Annotated[int, typer.Option(min=1, help="In the shop, at least.")] = 10_000,
    live: Annotated[float, typer.Option(help="Seconds of live traffic.")] = 120.0,
    rate: Annotated[float, typer.Option(help="Edits a second in it.")] = 50.0,
    burst: Annotated[int, typer.Option(help="Edits in a burst.")] = 200,
    burst_every: Annotated[float, typer.Option(help="Seconds.")] = 30.0,
    trickle: Annotated[float, typer.Option(help="New orders a second meanwhile.")] = 1.0,
    low: Annotated[int, typer.Option(help="Imports a minute that the account allows.")] = 120,
    seconds: Annotated[float, typer.Option(help="An import takes.")] = 1.0,
    each: Annotated[float, typer.Option(help="And for each record.")] = 0.0002,
    contacts_minutes: Annotated[float, typer.Option(help="Between two polls for customers.")] = 1.0,
    sample: Annotated[float, typer.Option(help="Seconds between two looks at memory and files.")] = 1.0,
    limit: Annotated[float, typer.Option(help="Seconds for each phase.")] = 7200.0,
    seed: Annotated[int, typer.Option(help="Of the shop and the edits.")] = 1,
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = RESULTS,
) -> None:
    """Load and soak a whole installation on a real Kafka. Exit code 0 only if both sides agree in the end."""

    def say(line: str) -> None:
        typer.echo(line, err=True)

    terms = Terms((contacts, products, orders), low, seconds, each, contacts_minutes, seed)
    plan = Plan(live, rate, burst, burst_every, trickle, sample, limit)
    clock = SystemClock()
    try:
        with broker(say, real=True) as kafka, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            installation = Installation(stack, kafka.bootstrap, Path(folder), terms, clock, say)
            soak = Run(installation, plan, terms, clock, say).play()
            facts: dict[str, Any] = {"broker": kafka.description, "command": _command()}
            write_section(out, "Load and soak", report(soak, plan, terms, facts))
    except ConfigurationError as error:
        for problem in error.problems:
            say(problem)
        sys.exit(2)
    except (EstarsyncError, TimeoutError) as error:
        say(str(error))
        sys.exit(1)
    say(f"written: {out}")
    sys.exit(0 if soak.held else 1)


def _command() -> str:
    words = words_given()
    return f'make soak SOAK_ARGS="{words}"' if words else "make soak"


if __name__ == "__main__":
    typer.run(main)
