"""Typed contacts and orders to measure the loader with, from a seed, and what their bodies weigh."""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec

from estarsync_core.dotdigital.fields import DATA_FIELDS
from estarsync_core.dotdigital.payloads import contact_entry, insight_record
from estarsync_core.entities import Entity, Lane, Version
from estarsync_core.headers import EventHeaders, RawHeaders
from estarsync_runtime.avro import AvroCodec

_CITIES = (("Auckland", "1010"), ("Wellington", "6011"), ("Christchurch", "8011"), ("Dunedin", "9016"))
_NAMES = ("Merino Tee", "Linen Shirt", "Wool Socks", "Rain Jacket", "Canvas Tote", "Denim Jeans")
_BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
_LINES = 4
_LIST = 1000  # an id as long as the account's

Record = tuple[Entity, str, bytes, RawHeaders, int]
"""Entity, key, value, headers, and the bytes that it takes in an import's body."""


class Typed:
    """Makes records; their versions count up."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - test data
        self._codec = AvroCodec()
        self._sequence = 0

    def contacts(self, count: int) -> Iterator[Record]:
        """So many contacts of a first load."""
        return (self.contact(f"shopper.{number}@mail.example", Lane.BULK) for number in range(count))

    def orders(self, count: int, contacts: int) -> Iterator[Record]:
        """So many orders of a first load, of so many contacts."""
        for number in range(count):
            yield self._order(1_000_000 + number, f"shopper.{self._dice.randrange(contacts)}@mail.example")

    def contact(self, email: str, lane: Lane) -> Record:
        """One contact, with all data fields."""
        dice = self._dice
        city, postcode = dice.choice(_CITIES)
        number = dice.randrange(10**6)
        fields: dict[str, Any] = dict.fromkeys(DATA_FIELDS)
        fields |= {
            "FIRSTNAME": "Aroha",
            "LASTNAME": f"Ngata{number}",
            "FULLNAME": f"Aroha Ngata{number}",
            "BILLING_ADDRESS_1": f"{number % 300} Queen Street",
            "BILLING_CITY": city,
            "BILLING_COUNTRY": "New Zealand",
            "BILLING_POSTCODE": postcode,
            "BILLING_TELEPHONE": f"+64 21 {number:07}",
            "CUSTOMER_ACTIVE": True,
            "CUSTOMER_ID": str(number),
            "CUSTOMER_TYPE": "Retail",
            "DOB": date(1970 + number % 35, 1 + number % 12, 1 + number % 28),
            "NEWSLETTER_SUBSCRIBE": bool(number % 2),
            "ON_CREDIT_HOLD": False,
        }
        document: dict[str, Any] = {
            "email": email,
            "renamed_from": None,
            "data_fields": fields,
            "omitted": [],
        }
        return self._record(Entity.CONTACTS, email, document, contact_entry(document, _LIST), lane)

    def _order(self, number: int, email: str) -> Record:
        dice = self._dice
        city, postcode = dice.choice(_CITIES)
        address = {
            "billing_address_1": f"{number % 300} Queen Street",
            "billing_address_2": None,
            "billing_city": city,
            "billing_region": None,
            "billing_country": "New Zealand",
            "billing_postcode": postcode,
        }
        lines = [
            {
                "name": f"{dice.choice(_NAMES)} {dice.randrange(5000)}",
                "sku": f"94{dice.randrange(10**10):010}",
                "price": dice.randrange(1000, 20000) / 100,
                "qty": dice.randint(1, 3),
                "product_id": str(dice.randrange(5000)),
            }
            for _ in range(_LINES)
        ]
        total = round(sum(line["price"] * line["qty"] for line in lines), 2)  # type: ignore[operator]  # numbers
        document = {
            "id": str(number),
            "email": email,
            "order_total": total,
            "order_subtotal": total,
            "discount_amount": 0.0,
            "delivery_total": 5.9,
            "currency": "NZD",
            "purchase_date": _BEGIN + timedelta(seconds=37 * (number - 1_000_000)),
            "order_status": "Completed",
            "delivery_method": "Courier",
            "billing_address": address,
            "delivery_address": None,
            "products": lines,
        }
        row = insight_record(Entity.ORDERS, document, email)
        return self._record(Entity.ORDERS, str(number), document, row, Lane.BULK)

    def _record(self, entity: Entity, key: str, document: dict[str, Any], row: Any, lane: Lane) -> Record:  # noqa: ANN401 - JSON
        self._sequence += 1
        version = Version(self._sequence, 1)
        headers = EventHeaders(entity, version, lane, "bench", _BEGIN, typed=True)
        size = len(msgspec.json.encode(row)) + 1
        return entity, key, self._codec.encode(entity, document), headers.encode(), size
