"""What the shop can be told to do wrong, by seed, so that a run can be repeated."""

import random
from collections import Counter
from typing import Annotated, Literal

import msgspec

Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]
Kind = Literal["customers", "products", "orders"]
Ids = dict[Kind, frozenset[int]]


class WebhookFaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What goes wrong with outgoing notifications; each is a share of them."""

    drop: Rate = 0.0
    duplicate: Rate = 0.0
    shuffle: bool = False


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What goes wrong with calls; each rate is a share of them."""

    seed: int = 0
    operations: frozenset[str] = frozenset()
    """Such as `Orders.Retrieve`; empty means all."""
    error: Rate = 0.0
    """HTTP 500 with a fault."""
    refuse: Rate = 0.0
    """HTTP 200 with Success=false."""
    html: Rate = 0.0
    """HTTP 200 with a page instead of an answer, as a firewall in front of the site gives."""
    drop: Rate = 0.0
    """The connection closes without an answer."""
    slow: Rate = 0.0
    slow_seconds: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    poison: Ids = {}
    """Ids that make every call fail which lists or retrieves them."""
    vanished: Ids = {}
    """Ids that are listed but not retrieved."""
    webhooks: WebhookFaults = WebhookFaults()


Outcome = Literal["error", "refuse", "html", "drop"]


class FaultPlan:
    """The faults in force, with their dice."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.played: Counter[str] = Counter()
        self.set(faults or Faults())

    def set(self, faults: Faults) -> None:
        """Put other faults in force; the dice start anew."""
        self.faults = faults
        self.random = random.Random(faults.seed)

    def draw(self, operation: str) -> tuple[Outcome | None, float]:
        """What happens to this call, and the seconds that it is held up."""
        faults = self.faults
        if faults.operations and operation not in faults.operations:
            return None, 0.0
        delay = faults.slow_seconds if self.random.random() < faults.slow else 0.0
        if delay:
            self.played["slow"] += 1
        dice = self.random.random()
        outcomes: tuple[Outcome, ...] = ("error", "refuse", "html", "drop")
        for outcome in outcomes:
            rate: float = getattr(faults, outcome)
            if dice < rate:
                self.played[outcome] += 1
                return outcome, delay
            dice -= rate
        return None, delay

    def poisoned(self, kind: Kind, ids: list[int]) -> int | None:
        """The first of these ids that makes a call fail."""
        poison = self.faults.poison.get(kind, frozenset())
        found = next((i for i in ids if i in poison), None)
        if found is not None:
            self.played["poison"] += 1
        return found

    def without_vanished(self, kind: Kind, ids: list[int]) -> list[int]:
        """The ids that can be retrieved."""
        gone = self.faults.vanished.get(kind, frozenset())
        return [i for i in ids if i not in gone]
