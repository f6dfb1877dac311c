"""The control endpoints beside the API, under /sandbox: truth, statistics, edits and faults, as JSON."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import httpx
import msgspec

from estarsync_core.clock import Clock
from sandbox.estar.contract import Contract
from sandbox.estar.edits import KINDS, Edit, Edited, EditKind, Editor, ImpossibleEdit
from sandbox.estar.faults import FaultPlan, Faults
from sandbox.estar.state import Event, Shop
from sandbox.estar.truth import truth
from sandbox.estar.webhooks import Target, deliver


class Edits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The edits named, or else so many random ones of these kinds."""

    seed: int = 0
    edits: list[Edit] = []
    count: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 1
    kinds: Annotated[tuple[EditKind, ...], msgspec.Meta(min_length=1)] = KINDS


class Control:
    """Answers requests under /sandbox.

    Args:
        shop: what is asked about and edited.
        clock: dates edits.
        faults: what to switch.
        calls: how often each operation was called.
        contract: which orders and lines count.
        target: who is told of edits, if anybody.
    """

    def __init__(
        self,
        shop: Shop,
        clock: Clock,
        faults: FaultPlan,
        calls: Counter[str],
        contract: Contract,
        target: Target | None,
    ) -> None:
        self._shop = shop
        self._clock = clock
        self._faults = faults
        self._calls = calls
        self._contract = contract
        self._target = target
        self._answers: dict[tuple[str, str], Callable[[bytes], Any]] = {
            ("GET", "/sandbox/truth"): self._truth,
            ("GET", "/sandbox/stats"): self._stats,
            ("GET", "/sandbox/faults"): lambda _: self._faults.faults,
            ("POST", "/sandbox/faults"): self._set_faults,
            ("POST", "/sandbox/edit"): self._edit,
        }

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; 404 where there is no such endpoint, 400 with `error` where it can't be done."""
        answer = self._answers.get((request.method, request.url.path))
        if answer is None:
            known = ", ".join(" ".join(place) for place in self._answers)
            return _json(404, {"error": f"no such control endpoint; there are {known}"})
        try:
            return _json(200, answer(request.content))
        except (msgspec.DecodeError, ImpossibleEdit) as error:
            return _json(400, {"error": str(error)})

    def _truth(self, _: bytes) -> Any:  # noqa: ANN401 - a JSON document
        with self._shop.lock:
            return truth(self._shop, self._contract).document()

    def _stats(self, _: bytes) -> Any:  # noqa: ANN401 - a JSON document
        with self._shop.lock:
            return {
                "calls": dict(sorted(self._calls.items())),
                "faults": dict(sorted(self._faults.played.items())),
                "records": {
                    "customers": len(self._shop.customers.records),
                    "products": len(self._shop.products.records),
                    "orders": len(self._shop.orders.records),
                    "events": len(self._shop.events),
                },
            }

    def _set_faults(self, body: bytes) -> Faults:
        faults = msgspec.json.decode(body or b"{}", type=Faults)
        with self._shop.lock:
            self._faults.set(faults)
        return faults

    def _edit(self, body: bytes) -> Any:  # noqa: ANN401 - a JSON document
        wanted = msgspec.json.decode(body or b"{}", type=Edits)
        dice = random.Random(wanted.seed)
        chosen = wanted.edits or [Edit(kind=dice.choice(wanted.kinds)) for _ in range(wanted.count)]
        done: list[Edited] = []
        impossible: list[str] = []
        with self._shop.lock:
            editor = Editor(self._shop, self._contract, dice)
            now = self._shop.local(self._clock.now())
            for edit in chosen:
                try:
                    done.append(editor.apply(edit, now))
                except ImpossibleEdit as error:
                    impossible.append(f"{edit.kind}: {error}")
        if impossible and not done:
            raise ImpossibleEdit("; ".join(impossible))
        notifications = self._notify([event for edit in done for event in edit.events])
        return {"edits": done, "impossible": impossible, "notifications": notifications}

    def _notify(self, events: list[Event]) -> Any:  # noqa: ANN401 - a JSON document
        # Without the lock: who is notified may call the API before it answers.
        if self._target is None:
            return None
        return asdict(deliver(self._target, events, self._faults.faults.webhooks, self._faults.random))


def _json(status: int, document: Any) -> httpx.Response:  # noqa: ANN401 - a JSON document
    content = msgspec.json.encode(document)
    return httpx.Response(status, headers={"content-type": "application/json"}, content=content)
