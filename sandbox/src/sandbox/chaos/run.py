"""Runs of chaos, one for each seed, and what they have shown."""

import os
import shutil
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from estarsync_core.clock import Clock
from sandbox.chaos import oracle
from sandbox.chaos.plan import Act, plan
from sandbox.chaos.stage import Stage
from sandbox.kafka import Broker, broker
from sandbox.kafka.removal import remove

_TURN = 0.1
_RECOVERY = 240.0
_CALM = 2.0
_GRACE = 15.0


@dataclass(frozen=True, slots=True)
class Options:
    """What to play.

    Attributes:
        seeds: a run each.
        seconds: how long things go wrong in each.
        customers: how large the shops are.
        report: where the report goes.
        logs: where the processes' logs go.
    """

    seeds: Sequence[int]
    seconds: float
    customers: int
    report: Path
    logs: Path


class Chaos:
    """Plays runs; everything that they start ends with them.

    Args:
        options: see `Options`.
        clock: the time.
        say: takes lines for people.
    """

    def __init__(self, options: Options, clock: Clock, say: Callable[[str], None]) -> None:
        self._options = options
        self._clock = clock
        self._say = say

    def run(self) -> bool:
        """Play every seed; true where every invariant holds in each. Blocks.

        Raises:
            ConfigurationError: there is no real Kafka.
        """
        shutil.rmtree(self._options.logs, ignore_errors=True)
        results = []
        with broker(self._say, real=True) as kafka:
            for seed in self._options.seeds:
                results.append(self._one(seed, kafka))
                document = {"broker": kafka.description, "runs": results}
                text = msgspec.json.format(msgspec.json.encode(document), indent=2)
                self._options.report.write_bytes(text + b"\n")
        bad = [result["seed"] for result in results if result["broken"]]
        self._say(f"{len(results)} runs, {len(bad)} with an invariant broken; see {self._options.report}")
        for seed in bad:
            self._say(
                f"again: sandbox chaos --seeds {seed} --seconds {self._options.seconds:g}"
                f" --customers {self._options.customers}"
            )
        return not bad

    def _one(self, seed: int, kafka: Broker) -> dict[str, Any]:
        folder = self._options.logs / str(seed)
        folder.mkdir(parents=True)
        deaths: list[str] = []
        acts = plan(seed, self._options.seconds, broker=kafka.pid is not None)
        self._say(f"seed {seed}: {len(acts)} acts in {self._options.seconds:g} s")
        with ExitStack() as stack:
            stage = Stage(stack, kafka, folder, seed, self._options.customers, self._clock, deaths.append)
            stack.callback(self._clean_up, kafka.bootstrap, stage.kafka.topic_prefix)
            stack.callback(stage.supervisor.stop, _GRACE)
            Player(stage, kafka, self._clock, self._say).play(acts)
            calm = self._clock.monotonic()
            proof = None
            while self._clock.monotonic() - calm < _RECOVERY:
                stage.supervisor.check()
                proof = oracle.agreement(stage, self._clock)
                if proof is not None and proof.in_agreement:
                    break
                self._clock.sleep(_CALM)
            recovered = round(self._clock.monotonic() - calm, 1)
            broken = oracle.broken(stage, proof)
            seen = oracle.tally(stage)
        for line in broken:
            self._say(f"seed {seed}: BROKEN: {line}")
        if not broken:
            self._say(f"seed {seed}: all holds; both sides agreed {recovered} s after the last fault")
        return {
            "seed": seed,
            "acts": [str(act) for act in acts],
            "deaths": len(deaths),
            "recovered_seconds": recovered,
            "broken": broken,
            "dotdigital": seen,
        }

    def _clean_up(self, bootstrap: str, prefix: str) -> None:
        for line in remove(bootstrap, prefix, self._clock):
            self._say(f"left behind, {line}")


class Player:
    """Carries a plan out, by the clock.

    Args:
        stage: what it happens to.
        kafka: frozen now and then, where it was started here.
        clock: the time.
        say: takes lines for people.
    """

    def __init__(self, stage: Stage, kafka: Broker, clock: Clock, say: Callable[[str], None]) -> None:
        self._stage = stage
        self._kafka = kafka
        self._clock = clock
        self._say = say
        self._ends: list[tuple[float, Callable[[], None]]] = []

    def play(self, acts: Sequence[Act]) -> None:
        """Do everything at its time, then end what still lasts; blocks."""
        begun = self._clock.monotonic()
        waiting = list(acts)
        while waiting or self._ends:
            self._stage.supervisor.check()
            now = self._clock.monotonic() - begun
            while waiting and waiting[0].at <= now:
                self._do(waiting.pop(0), now)
            for end in [each for each in self._ends if each[0] <= now]:
                self._ends.remove(end)
                end[1]()
            self._clock.sleep(_TURN)
        self._stage.tell_account(clear=True)
        self._stage.tell_shop()

    def _do(self, act: Act, now: float) -> None:
        self._say(f"  {act}")
        stage = self._stage
        match act.kind:
            case "kill":
                stage.signal(act.who, signal.SIGKILL)
            case "stop":
                stage.signal(act.who, signal.SIGTERM)
            case "freeze":
                stage.signal(act.who, signal.SIGSTOP)
                self._ends.append((now + act.seconds, lambda: stage.signal(act.who, signal.SIGCONT)))
            case "broker" if self._kafka.pid is not None:
                pid = self._kafka.pid
                os.kill(pid, signal.SIGSTOP)
                self._ends.append((now + act.seconds, lambda: os.kill(pid, signal.SIGCONT)))
            case "dotdigital":
                stage.tell_account(clear=True, probabilities=act.detail)
                self._ends.append((now + act.seconds, lambda: stage.tell_account(clear=True)))
            case "shop":
                stage.tell_shop(**act.detail)
                self._ends.append((now + act.seconds, stage.tell_shop))
            case "edit":
                stage.edit(**act.detail)
            case "add" if not stage.extra:
                stage.add(act.who)
            case "remove" if stage.extra:
                stage.remove(act.who)
            case _:
                pass
