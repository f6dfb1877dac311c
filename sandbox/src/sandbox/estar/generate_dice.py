"""What the generator's parts share: dice, words, times, and the secrets that must never leave the shop."""

import random
from collections.abc import Mapping
from datetime import datetime, timedelta

from sandbox.estar.state import Body, Node, repeat_bodies

HISTORY = timedelta(days=730)
NULL_DATE = "0001-01-01T00:00:00"
PLANTED_TEXT = "SECRET-"
PLANTED_CARD = "4111111111111111"
PLANTED_COST = ".98765"
SECRET_MARKS = (PLANTED_TEXT, PLANTED_CARD, PLANTED_COST)
"""Each planted secret contains one of these: none may be found downstream."""

FIRST_NAMES = ("Ana", "Ben", "Carla", "Dev", "Ella", "Finn", "Grace", "Hemi", "Isla", "Jack", "Kiri", "Liam")
LAST_NAMES = ("Baker", "Chen", "Davis", "Evans", "Fraser", "Green", "Harris", "Jones", "Kumar", "Walker")
ODD_NAMES = (
    ("Māia", "Tāwhiri"),
    ("Ma\u0304ia", "Te\u00a0Ariki"),  # a combining macron, a no-break space
    ("Zoë 🌸", "O'Neill"),
    ("Jean\u200b-Luc", "Müller & Sons"),  # a zero-width space
    ("&amp;Co", "<b>Smith</b>"),
    ("שרה", "\u200f\u05db\u05d4\u05df"),  # right to left, with a mark
)
CITIES = ("Auckland", "Wellington", "Ōtautahi", "Leeds", "Bristol", "Darwin")
COUNTRIES = ("New Zealand", "NZ", "United Kingdom", "UK", " Australia ", "AUS")
POSTCODES = ("0610", "0800", "6011", "LS1 4AP", "BS1 5TR")


class Dice:
    """Seeded chance, and the ids and times that come from it.

    Args:
        seed: the same seed gives the same shop, byte for byte.
        now: the end of the shop's history, naive, in its zone.
    """

    def __init__(self, seed: int, now: datetime) -> None:
        self.random = random.Random(seed)
        self.now = now

    def spread(self, count: int, shares: Mapping[str, float]) -> list[str]:
        """So many kinds, in chance order: each of `shares` at least once where there is room, else `plain`."""
        kinds = [kind for kind, share in shares.items() for _ in range(max(1, round(count * share)))]
        kinds = [*kinds[:count], *["plain"] * (count - len(kinds))]
        self.random.shuffle(kinds)
        return kinds

    def time(self, after: datetime | None = None) -> datetime:
        """A time in the shop's history, now and then with milliseconds, as SQL Server has them."""
        start = after or self.now - HISTORY
        seconds = int((self.now - start).total_seconds())
        milliseconds = self.random.choice((0, 0, 0, 0, 7, 123, 500, 993))
        return start + timedelta(seconds=self.random.randrange(max(1, seconds)), milliseconds=milliseconds)

    def times(self, count: int) -> list[datetime]:
        """So many times, ascending."""
        return sorted(self.time() for _ in range(count))

    def price(self) -> str:
        """A price above 0, with two decimals or, as SQL's money has them, four."""
        text = f"{self.random.randint(100, 25_000) / 100:.2f}"
        return text + self.random.choice(("", "", "00"))


def named_values(pairs: Mapping[str, str | None]) -> Node:
    """A list of names and values, as Attributes and Images are."""
    return repeat_bodies("NameValue", ({"Name": name, "Value": value} for name, value in pairs.items()))


def address(dice: Dice, kind: str | None, first: str, last: str, number: int) -> Body:
    """An address in full."""
    city = dice.random.choice(CITIES)
    return {
        "Type": kind,
        "Title": dice.random.choice(("Ms", "Mr", "")),
        "FirstName": first,
        "LastName": last,
        "ContactPhone": dice.random.choice(("09 123 4567", "+64 21 555 010", "021-555-011 ext. 4", "")),
        "Company": dice.random.choice(("", "", "Tūī & Co")),
        "Street": f"{dice.random.randint(1, 250)} High Street",
        "Suburb": dice.random.choice(("Central", "Ōrākei", "")),
        "State": dice.random.choice(("", "NT", "Auckland")),
        "City": city,
        "Postcode": dice.random.choice(POSTCODES),
        "ExtraInformation": None,
        "Country": dice.random.choice(COUNTRIES),
        "ID": str(number),
    }
