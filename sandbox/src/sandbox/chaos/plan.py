"""What goes wrong in a run, and when: a pure function of the seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

from typing_extensions import override

Kind = Literal["kill", "stop", "freeze", "broker", "dotdigital", "shop", "edit", "add", "remove"]
SERVICES = (
    "extractor-0",
    "extractor-1",
    "transformer-0",
    "transformer-1",
    "loader-0",
    "loader-1",
    "webhooks-0",
)
"""Who runs from the beginning: an active one and a standby, two that share the work, one receiver."""
EXTRA = ("transformer-2",)
"""Who comes and goes."""
_QUIET = 3.0  # seconds at the beginning
_PAUSE = 3.0  # seconds between two acts, on average
_LIVE = {"kill": 5, "stop": 2, "freeze": 2, "dotdigital": 5, "shop": 3, "edit": 8, "add": 1, "remove": 1}
_CALLS: Sequence[dict[str, Any]] = (
    {"http_500": 0.2},
    {"http_503": 0.3},
    {"drop_before": 0.2},
    {"drop_after": 0.15},
    {"import_failed": 0.3},
    {"import_vanishes": 0.2},
    {"import_report_omits": 0.3},
    {"http_502": 0.1, "drop_after": 0.1, "import_failed": 0.1},
)
_SHOP: Sequence[dict[str, Any]] = (
    {"error": 0.4},
    {"refuse": 0.3},
    {"html": 0.2, "drop": 0.2},
    {"slow": 0.2, "slow_seconds": 1.0},
    {"webhooks": {"drop": 0.5}},
    {"webhooks": {"duplicate": 0.5, "shuffle": True}},
)


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that goes wrong, or that people do.

    Attributes:
        at: seconds from the beginning.
        kind: what.
        who: the process that it happens to, if any.
        seconds: how long it lasts.
        detail: what exactly, for the twins.
    """

    at: float
    kind: Kind
    who: str = ""
    seconds: float = 0.0
    detail: dict[str, Any] = field(default_factory=dict)

    @override
    def __str__(self) -> str:
        """For people."""
        lasting = f" for {self.seconds:.0f} s" if self.seconds else ""
        detail = f" {self.detail}" if self.detail else ""
        return f"{self.at:5.1f} s  {self.kind} {self.who}{detail}{lasting}".rstrip()


def plan(seed: int, seconds: float, *, broker: bool) -> list[Act]:
    """Everything that goes wrong in a run of so many seconds, in order.

    Args:
        seed: the same seed gives the same plan.
        seconds: how long things go wrong.
        broker: whether the broker may be frozen, too.
    """
    rng = random.Random(seed)
    weights = {**_LIVE, "broker": 1} if broker else dict(_LIVE)
    acts: list[Act] = []
    at = _QUIET
    while at < seconds:
        (kind,) = rng.choices(list(weights), list(weights.values()))
        acts.append(_act(kind, round(at, 1), rng))  # type: ignore[arg-type]  # the weights' names are kinds
        at += rng.expovariate(1 / _PAUSE)
    return acts


def _act(kind: Kind, at: float, rng: random.Random) -> Act:
    match kind:
        case "kill" | "stop":
            act = Act(at, kind, rng.choice(SERVICES))
        case "freeze":
            act = Act(at, kind, rng.choice(SERVICES[:-1]), seconds=rng.choice([1.0, 4.0, 12.0]))
        case "broker":
            act = Act(at, kind, seconds=rng.choice([1.0, 5.0]))
        case "add" | "remove":
            act = Act(at, kind, EXTRA[0])
        case "dotdigital":
            act = Act(at, kind, seconds=rng.uniform(2, 8), detail=dict(rng.choice(_CALLS)))
        case "shop":
            detail = {**rng.choice(_SHOP), "seed": rng.randrange(1_000_000)}
            act = Act(at, kind, seconds=rng.uniform(2, 8), detail=detail)
        case "edit":
            act = Act(at, kind, detail={"seed": rng.randrange(1_000_000), "count": rng.randint(1, 8)})
        case _:
            assert_never(kind)
    return act
