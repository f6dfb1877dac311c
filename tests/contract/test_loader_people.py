"""Shoppers who change their e-mails, take orders over and are forgotten, while everything fails: both sides agree in the end.

`make simulate SEEDS=1-1000` runs as many as wanted; a run is the same every time.
"""

import os
import random
from functools import partial

import pytest

from estarsync_core.control import Erasure, erased_key
from estarsync_core.entities import Entity, Lane, Reason
from estarsync_core.errors import RetryLater
from sandbox.dotdigital.faults import FaultRequest

FAULTS = {
    "http_503": 0.03,
    "drop_before": 0.03,
    "drop_after": 0.05,
    "import_failed": 0.03,
    "import_report_omits": 0.05,
}
FOUND = [5, 7, 35, 36]


def seeds() -> list[int]:
    """Which: `SEEDS=7` or `SEEDS=1-1000`; without, a few, and those that found something once."""
    first, _, last = os.environ.get("SEEDS", "0-3").partition("-")
    found = [] if "SEEDS" in os.environ else FOUND
    return [*range(int(first), int(last or first) + 1), *found]


class Shop:
    """What the shop knows; says it as the poller would."""

    def __init__(self, rig, rng: random.Random) -> None:
        self.rig, self.rng = rig, rng
        self.emails = {str(number): f"c{number}@shop.example" for number in range(8)}
        self.wants: dict[str, bool] = {}
        self.orders: dict[str, str] = {}
        self.erased: set[str] = set()
        self.former: dict[str, set[str]] = {}
        self.used = 100

    def something(self) -> None:
        """One change."""
        act = self.rng.choice(
            [self.customer, self.customer, self.order, self.order, self.order, self.rename, self.erase]
        )
        act()

    def customer(self, renamed_from: str | None = None, who: str | None = None) -> None:
        who = who or self.rng.choice(list(self.emails))
        self.wants[who] = self.rng.random() < 0.5
        self.rig.contact(
            self.emails[who],
            CUSTOMER_ID=who,
            NEWSLETTER_SUBSCRIBE=self.wants[who],
            renamed_from=renamed_from,
            lane=self.rng.choice(list(Lane)),
        )

    def order(self) -> None:
        key = f"O-{self.rng.randint(1, 15)}"
        guest = self.rng.random() < 0.2
        email = "guest@shop.example" if guest else self.rng.choice(list(self.emails.values()))
        if self.rng.random() < 0.7 and self.orders.get(key, "") not in self.erased:
            email = self.orders.get(key, email)  # mostly, an order keeps its e-mail
        self.orders[key] = email
        self.rig.order(key, email, total=float(self.rng.randint(1, 99)))

    def rename(self) -> None:
        who = self.rng.choice(list(self.emails))
        if who not in self.wants:
            return
        old, self.used = self.emails[who], self.used + 1
        self.emails[who] = f"c{self.used}@shop.example"
        self.former.setdefault(who, set()).add(old)
        words = [
            partial(self.customer, renamed_from=old, who=who),
            partial(self.rig.tombstone, Entity.CONTACTS, old, Reason.RENAMED),
        ]
        self.rng.shuffle(words)  # they are in different partitions
        for say in words:
            say()

    def erase(self) -> None:
        if len(self.emails) < 4 or self.rng.random() < 0.5:
            return
        who = self.rng.choice(list(self.emails))
        email = self.emails.pop(who)
        self.wants.pop(who, None)
        theirs = {email, *self.former.get(who, ())}
        self.erased |= theirs
        for each in theirs if self.rng.random() < 0.5 else {email}:
            self.rig.people.say(erased_key(each), Erasure(who, self.rig.clock.now()))
        self.rig.tombstone(Entity.CONTACTS, email, Reason.ERASED)
        for key in [key for key, owner in self.orders.items() if owner in theirs]:
            del self.orders[key]
            self.rig.tombstone(Entity.ORDERS, key, Reason.ERASED)


@pytest.mark.parametrize("scope", ["all", "subscribed"])
@pytest.mark.parametrize("seed", seeds())
def test_in_the_end_both_sides_agree_on_everybody(rigs, seed, scope):
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    rig = rigs(
        {"import_seconds": rng.choice([0.2, 3.0]), "import_shuffle": 0.9},
        contact_scope=scope,
        loader_batch_records=rng.choice([2, 100]),
    )
    shop = Shop(rig, rng)
    rig.box.account.faults.ask(FaultRequest(probabilities=FAULTS))
    for _ in range(50):
        for _ in range(rng.randint(0, 4)):
            shop.something()
        killed = rng.random() < 0.1
        try:
            rig.turn_for(rng.choice([0.05, 0.5, 3.0]))
        except RetryLater:
            killed = True
        if killed:
            rig.box.account.faults.ask(FaultRequest(clear=True))
            rig.kill()
            rig.box.account.faults.ask(FaultRequest(probabilities=FAULTS))
    rig.box.account.faults.ask(FaultRequest(clear=True))
    rig.turn_for(2)
    rig.run(3 * 3600, pace=0.5)
    rig.turn_for(3)
    for entity, found in rig.reconciled().items():
        assert found.in_agreement, (entity, found.samples)
    for who, wants in shop.wants.items():
        contact = rig.held(shop.emails[who])
        assert contact is not None or scope == "subscribed"
        if contact is not None:
            assert contact.fields["NEWSLETTER_SUBSCRIBE"] is wants
    assert [email for email in shop.erased if rig.held(email) is not None] == []
    assert rig.dead_letters(Entity.ORDERS) == rig.dead_letters(Entity.CONTACTS) == {}
    assert rig.violations == {}
