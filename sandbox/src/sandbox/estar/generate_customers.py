"""Generated customers, with the e-mails and the gaps that real shops have."""

from collections.abc import Iterator
from datetime import datetime
from itertools import cycle

from sandbox.estar.generate_dice import (
    FIRST_NAMES,
    LAST_NAMES,
    NULL_DATE,
    ODD_NAMES,
    PLANTED_TEXT,
    Dice,
    address,
    named_values,
)
from sandbox.estar.state import Body, Node, Record, repeat, repeat_bodies, stamp

_EMAILS = {
    "shared": 0.03,
    "case": 0.03,
    "padded": 0.01,
    "invalid": 0.02,
    "missing": 0.02,
    "absent": 0.01,
    "placeholder": 0.01,
}
_FACTS = {
    "odd-name": 0.06,
    "nil": 0.03,
    "empty": 0.03,
    "absent": 0.03,
    "null-dates": 0.03,
    "odd-dob": 0.04,
    "inactive": 0.04,
    "on-hold": 0.02,
    "business": 0.05,
    "no-address": 0.03,
    "untyped-address": 0.03,
    "imported": 0.05,
}
_INVALID = (
    "not an e-mail",
    "jane@",
    "@example.com",
    "jane..doe@example.com",
    "jane doe@example.com",
    "a@example.com, b@example.com",
)
_MISSING: tuple[str | None, ...] = (None, "", "   ")
_PLACEHOLDERS = ("noemail@store", "none@none", "staff@pos")
_ODD_DOBS = ("1900-01-01", NULL_DATE, "2087-05-05", "31/02/1980", "unknown", "")
_NULLABLE = ("Title", "FirstName", "LastName", "Phone", "Mobile", "CustomerType", "Account", "InterestGroups")


def customers(dice: Dice, count: int) -> list[Record]:
    """So many customers, ids ascending with the time of creation."""
    email_kinds = dice.spread(count, _EMAILS)
    emails = _emails(dice, email_kinds)
    facts = dice.spread(count, _FACTS)
    imported = dice.time()  # when many accounts were changed in one go
    made: list[Record] = []
    number = 1000
    for i, created in enumerate(dice.times(count)):
        number += dice.random.randint(1, 3)
        modified = dice.time(created)
        if facts[i] == "imported" and created < imported:
            modified = imported
        customer = _customer(dice, number, emails[i], facts[i], (created, modified))
        if email_kinds[i] == "absent":
            del customer.body["Email"]
        made.append(customer)
    return made


def _emails(dice: Dice, kinds: list[str]) -> list[str | None]:
    """One e-mail per customer; None is nil."""
    plain = [
        f"{dice.random.choice(FIRST_NAMES)}.{dice.random.choice(LAST_NAMES)}{i}@example.com".lower()
        for i in range(len(kinds))
    ]
    honest = [plain[i] for i, kind in enumerate(kinds) if kind == "plain"] or plain[:1]
    useless: dict[str, Iterator[str | None]] = {
        "invalid": cycle(_INVALID),
        "missing": cycle(_MISSING),
        "absent": cycle(_MISSING),
        "placeholder": cycle(_PLACEHOLDERS),
    }
    found: list[str | None] = []
    for i, kind in enumerate(kinds):
        other = dice.random.choice(honest)
        variants = {"shared": other, "case": other.title(), "padded": f"  {other.upper()} "}
        found.append(next(useless[kind]) if kind in useless else variants.get(kind, plain[i]))
    return found


def _customer(
    dice: Dice, number: int, email: str | None, fact: str, times: tuple[datetime, datetime]
) -> Record:
    first, last = dice.random.choice(FIRST_NAMES), dice.random.choice(LAST_NAMES)
    if fact == "odd-name":
        first, last = dice.random.choice(ODD_NAMES)
    created, modified = times
    body: Body = {
        "ID": str(number),
        "ForeignIdentity": f"ERP{number:08d}",
        "Email": email,
        "Title": dice.random.choice(("Ms", "Mr", "Mx", "")),
        "FirstName": first,
        "LastName": last,
        "Phone": dice.random.choice(("09 123 4567", "+44 113 496 0000", "")),
        "Fax": "",
        "Mobile": dice.random.choice(("021 555 012", "", None)),
        "Password": f"{PLANTED_TEXT}password-{number}",
        "Protected": "false",
        "LpmStatus": dice.random.choice(("1", "1", "0")),
        "SmsStatus": "0",
        "EmailFormat": "HTML",
        "CustomerType": "2" if fact == "business" else "1",
        "PreferencesToken": f"{PLANTED_TEXT}token-{dice.random.getrandbits(64):016x}",
        "InterestGroups": repeat("string", dice.random.sample(("Sale", "Home", "Kids"), 2)),
        "Account": _account(number, fact, created),
        "Notes": repeat("string", [f"{PLANTED_TEXT}note: rang about a late parcel"]),
        "Attributes": _attributes(dice, fact),
        "Addresses": _addresses(dice, fact, (first, last), number),
        "Websites": repeat("int", dice.random.choice((("1",), ("1",), ("1", "2")))),
        "DateCreated": NULL_DATE if fact == "null-dates" else stamp(created),
        "DateModified": stamp(modified),
    }
    _blank(body, fact)
    return Record(number, created, modified, body)


def _account(number: int, fact: str, created: datetime) -> Node:
    business = fact == "business"
    return {
        "AccountID": str(number),
        "AccountType": "Trade" if business else "Retail",
        "AccountName": "Tūī & Co <Wholesale>" if business else "",
        "DateCreated": NULL_DATE if fact == "null-dates" else stamp(created),
        "Discount": "10.0000" if business else "0",
        "FreeFreight": str(business).lower(),
    }


def _attributes(dice: Dice, fact: str) -> Node:
    born = f"{dice.random.randint(1940, 2005)}-{dice.random.randint(1, 12):02d}-15T00:00:00"
    return named_values(
        {
            "Active": str(fact != "inactive").lower(),
            "OnCreditHold": str(fact == "on-hold").lower(),
            "DOB": dice.random.choice(_ODD_DOBS) if fact == "odd-dob" else born,
            "Shoe size": "42",
        }
    )


def _addresses(dice: Dice, fact: str, name: tuple[str, str], number: int) -> Node:
    if fact == "no-address":
        return []
    kinds: tuple[str | None, ...] = ("Shipping", "Billing")
    if fact == "untyped-address":
        kinds = (None,)
    return repeat_bodies(
        "CustomerAddress",
        (address(dice, kind, *name, number * 10 + place) for place, kind in enumerate(kinds)),
    )


def _blank(body: Body, fact: str) -> None:
    """Three kinds of nothing: nil, empty and absent."""
    for name in _NULLABLE:
        if fact == "nil":
            body[name] = None
        elif fact == "empty":
            body[name] = ""
        elif fact == "absent":
            del body[name]
