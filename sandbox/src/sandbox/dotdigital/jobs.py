"""Asynchronous jobs: imports and bulk deletions. They end when somebody looks and their time has come."""

import hashlib
import random
import uuid
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, Literal

import msgspec

from sandbox.dotdigital.call import Call
from sandbox.dotdigital.faults import IMPORTS, Fault, Faults
from sandbox.dotdigital.ledger import Ledger, Violation

JobKind = Literal["contact_import", "insight_import", "contact_delete", "insight_async"]
State = Literal["NotFinished", "Finished", "Failed", "RejectedByWatchdog", "ExceedsAllowedContactLimit"]
Work = Callable[[float, int], dict[str, Any]]
"""Carries a job out: (epoch seconds, how many records at most) to the report's body."""

_ENDS: dict[str, State] = {
    "import_failed": "Failed",
    "import_rejected": "RejectedByWatchdog",
    "import_exceeds_limit": "ExceedsAllowedContactLimit",
}
_LISTED = ("created", "updated")


@dataclass(slots=True, eq=False)
class Job:
    """One job. `work` and `keys` are let go when it ends."""

    id: str
    kind: JobKind
    size: int
    accepted: float
    due: float
    body: bytes
    fault: Fault | None
    work: Work | None
    keys: list[str] = field(default_factory=list)
    state: State = "NotFinished"
    vanished: bool = False
    report: bytes = b""  # compressed JSON of everything but id and status

    def shown(self, id_name: str, status: str) -> bytes:
        """Its status as JSON."""
        head = msgspec.json.encode({id_name: self.id, "status": status})
        rest = zlib.decompress(self.report) if self.report else b"{}"
        return head if rest == b"{}" else head[:-1] + b"," + rest[1:]


class Jobs:
    """All jobs of an account.

    Args:
        ledger: learns of a key that stands in two open imports.
        faults: decides how imports go wrong.
        rng: ids and delays.
    """

    def __init__(self, ledger: Ledger, faults: Faults, rng: random.Random) -> None:
        self._ledger = ledger
        self._faults = faults
        self._rng = rng
        self._open: dict[str, Job] = {}
        self._ended: OrderedDict[str, Job] = OrderedDict()
        self._due: list[tuple[float, int, Job]] = []
        self._sequence = 0
        self._holders: dict[str, tuple[Job, ...]] = {}
        self.accepted: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.most_open: Counter[str] = Counter()
        self.identical_resends = 0

    def open(self, call: Call, kind: JobKind, size: int, work: Work, keys: list[str]) -> Job:
        """Accept a job.

        Args:
            call: that asked for it.
            kind: what it is.
            size: how many records.
            work: see `Work`.
            keys: of its records, as `write_beside_import` will be asked for them.
        """
        options = call.account.options
        fault = self._faults.take(IMPORTS, "PUT", call.template) if kind.endswith("import") else None
        spread = 1 + options.import_shuffle * self._rng.uniform(-1, 1)
        delay = (options.import_seconds + options.import_seconds_per_record * size) * spread
        job = Job(
            id=str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
            kind=kind,
            size=size,
            accepted=call.now,
            due=call.now + delay,
            body=hashlib.sha256(call.body).digest(),
            fault=fault,
            work=work,
            keys=keys,
        )
        self._open[job.id] = job
        if fault is None or fault.kind != "import_never_ends":
            self._sequence += 1
            heappush(self._due, (job.due, self._sequence, job))
        self.accepted[kind] += 1
        self.most_open[kind] = max(self.most_open[kind], self.open_count(kind))
        self._hold(job)
        return job

    def open_count(self, kind: str) -> int:
        """How many jobs of a kind are open."""
        return sum(job.kind == kind for job in self._open.values())

    def find(self, job_id: str, *kinds: JobKind) -> Job | None:
        """A job by its id, if it is of one of the kinds and has not vanished."""
        job = self._open.get(job_id) or self._ended.get(job_id)
        return job if job is not None and job.kind in kinds and not job.vanished else None

    def advance(self, now: float, keep: int) -> None:
        """End what is due by now, each at its own time; only the newest `keep` reports stay."""
        while self._due and self._due[0][0] <= now:
            self._end(heappop(self._due)[2])
        while len(self._ended) > keep:
            self._ended.popitem(last=False)

    def write_beside_import(self, now: float, key: str) -> None:
        """A single write to a key: note it as a violation if an open import holds the same key."""
        if key in self._holders:
            self._ledger.violation(
                Violation(now, "single_write_beside_open_import", key, self._holders[key][0].id)
            )

    def _hold(self, job: Job) -> None:
        resent = False
        for key in job.keys:
            others = self._holders.get(key, ())
            self._holders[key] = (*others, job)
            for other in others:
                if other.body == job.body:
                    resent = True
                elif other is not job:
                    self._ledger.violation(
                        Violation(job.accepted, "key_in_two_open_imports", key, f"{other.id} {job.id}")
                    )
        self.identical_resends += resent

    def _release(self, job: Job) -> None:
        for key in job.keys:
            others = tuple(other for other in self._holders.get(key, ()) if other is not job)
            if others:
                self._holders[key] = others
            else:
                self._holders.pop(key, None)
        job.keys = []

    def _end(self, job: Job) -> None:
        work, job.work = job.work, None
        fault = job.fault
        job.state = "Finished" if fault is None else _ENDS.get(fault.kind, "Finished")
        job.vanished = fault is not None and fault.kind == "import_vanishes"
        partly = job.vanished or job.state != "Finished"
        count = int(job.size * (fault.share or 0.0)) if fault is not None and partly else job.size
        report = work(job.due, count) if work is not None and (count or not partly) else {}
        if partly:
            report = {}
        elif fault is not None and fault.kind == "import_report_omits":
            self._omit(report, 0.1 if fault.share is None else fault.share)
        job.report = zlib.compress(msgspec.json.encode(report), 1)
        self._release(job)
        del self._open[job.id]
        self._ended[job.id] = job
        self.ended[f"{job.kind} {'vanished' if job.vanished else job.state}"] += 1

    def _omit(self, report: dict[str, Any], share: float) -> None:
        summary = report["summary"]
        names = dict(zip(_LISTED, ("newContacts", "updatedContacts"), strict=True))
        for name, counted in names.items():
            if name in report:
                kept = [row for row in report[name] if self._rng.random() >= share]
                summary[counted] -= len(report[name]) - len(kept)
                report[name] = kept
        if "totalImported" in summary:
            summary["totalImported"] -= round(summary["totalImported"] * share)
