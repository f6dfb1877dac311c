"""Faults on request: at random by seed, or once, in the order in which they were asked for."""

import random
from collections.abc import Container, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sandbox.dotdigital.limits import Metered

CallFault = Literal[
    "http_500",
    "http_502",
    "http_503",
    "http_504",
    "drop_before",  # the connection closes and nothing has happened
    "drop_after",  # the call is carried out, its answer is lost
    "slow",  # the call is carried out, its answer comes `seconds` later
    "unauthorized",  # 401
    "quota_storm",  # 429 for every call, for `seconds`
]
ImportFault = Literal[
    "import_failed",  # ends Failed; `share` of the records were applied before
    "import_rejected",  # ends RejectedByWatchdog (Insight: Failed)
    "import_exceeds_limit",  # ends ExceedsAllowedContactLimit (Insight: Failed)
    "import_vanishes",  # its status becomes 404; `share` of the records were applied
    "import_never_ends",  # it stays NotFinished, and keeps its slot
    "import_report_omits",  # Finished, and `share` of the records are missing from the report
]
FaultKind = CallFault | ImportFault
BEFORE: frozenset[str] = frozenset({"drop_before", "unauthorized", "quota_storm"})
AFTER: frozenset[str] = frozenset({"drop_after", "slow"})
STATUSES: Mapping[str, int] = MappingProxyType(
    {"http_500": 500, "http_502": 502, "http_503": 503, "http_504": 504}
)
IMPORTS: frozenset[str] = frozenset(
    {
        "import_failed",
        "import_rejected",
        "import_exceeds_limit",
        "import_vanishes",
        "import_never_ends",
        "import_report_omits",
    }
)


class Fault(BaseModel):
    """One fault.

    Attributes:
        kind: what happens.
        method: only to calls with this method.
        path: only to calls whose path template begins so, `/insightData/v3/import`.
        times: how often.
        after: for `http_…`: the call is carried out first.
        seconds: how long, for `slow` and `quota_storm`.
        share: how much, for imports.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FaultKind
    method: str | None = None
    path: str | None = None
    times: Annotated[int, Field(ge=1)] = 1
    after: bool = False
    seconds: Annotated[float, Field(ge=0)] = 121.0
    share: Annotated[float, Field(ge=0, le=1)] | None = None

    def fits(self, method: str, template: str) -> bool:
        """Whether it is meant for such a call."""
        return self.method in {None, method} and template.startswith(self.path or "")


class FaultRequest(BaseModel):
    """`POST /sandbox/faults`.

    Attributes:
        clear: forget what was asked before.
        once: faults to queue.
        probabilities: per kind, for every call (or import) that it fits; replaces what was asked before.
        other_client: calls a minute, per tier, that somebody else makes with the same account.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clear: bool = False
    once: tuple[Fault, ...] = ()
    probabilities: dict[FaultKind, Annotated[float, Field(ge=0, le=1)]] | None = None
    other_client: dict[Metered, Annotated[float, Field(ge=0)]] | None = None


@dataclass(slots=True)
class _Queued:
    fault: Fault
    left: int


class Faults:
    """Decides, call by call, what goes wrong.

    Args:
        rng: for the probabilities.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._queue: list[_Queued] = []
        self._probabilities: dict[FaultKind, float] = {}
        self.storm_until = 0.0

    def ask(self, request: FaultRequest) -> None:
        """Take a request in."""
        if request.clear:
            self._queue.clear()
            self._probabilities.clear()
            self.storm_until = 0.0
        self._queue += [_Queued(fault, fault.times) for fault in request.once]
        if request.probabilities is not None:
            self._probabilities = dict(request.probabilities)

    def waiting(self) -> int:
        """How many queued faults have not happened yet."""
        return sum(queued.left for queued in self._queue)

    def take(
        self, kinds: Container[str], method: str, template: str, *, after: bool | None = None
    ) -> Fault | None:
        """The fault that happens now, if any.

        Args:
            kinds: which kinds can happen at this point.
            method: the call's.
            template: the call's path template.
            after: only faults of this side of the work, where it matters.
        """
        for queued in self._queue:
            fault = queued.fault
            side = after is None or fault.after is after
            if fault.kind in kinds and side and fault.fits(method, template):
                queued.left -= 1
                if queued.left == 0:
                    self._queue.remove(queued)
                return fault
        for kind, probability in self._probabilities.items():
            if kind in kinds and not after and self._rng.random() < probability:
                return Fault(kind=kind)
        return None
