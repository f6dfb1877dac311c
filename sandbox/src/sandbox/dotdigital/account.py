"""An account's state: what one sandbox holds."""

import random
from collections import Counter

from sandbox.dotdigital.contacts import ContactStore
from sandbox.dotdigital.faults import Faults
from sandbox.dotdigital.fields import DataFields
from sandbox.dotdigital.insight import Collection
from sandbox.dotdigital.jobs import Jobs
from sandbox.dotdigital.ledger import Ledger
from sandbox.dotdigital.limits import RateLimits
from sandbox.dotdigital.lists import Lists
from sandbox.dotdigital.options import Options


class Account:
    """Everything that calls read and change; not safe for several threads.

    Args:
        options: may be replaced at any time.
        rng: decides import ids, delays, short pages and faults.
    """

    def __init__(self, options: Options, rng: random.Random) -> None:
        self.options = options
        self.rng = rng
        self.contacts = ContactStore()
        self.fields = DataFields()
        self.lists = Lists()
        self.collections: dict[str, Collection] = {}
        self.ledger = Ledger(options.keep_calls, options.keep_writes, options.ledger_path)
        self.limits = RateLimits()
        self.faults = Faults(rng)
        self.jobs = Jobs(self.ledger, self.faults, rng)
        self.mails: Counter[str] = Counter()
        """Mails to shoppers that a real account would have sent, by reason."""

    def collection(self, name: str) -> Collection | None:
        """A collection by its exact name."""
        return self.collections.get(name)
