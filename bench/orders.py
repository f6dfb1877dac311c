"""Raw orders to measure with: about 1.2 KB of JSON each, four lines, a billing address, from a seed."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from estarsync_core.entities import Entity, Lane, Version
from estarsync_core.headers import EventHeaders, RawHeaders

PROFILE = """\
websites:
  "1": {currency: NZD, product_url: "https://shop.example/p/{id}", image_base: "https://shop.example"}
"""
_FIRST = ("Aroha", "Mere", "Wiremu", "Grace", "Oliver", "Sofia", "Liam", "Isla", "Noah", "Mia")
_LAST = ("Ngata", "Smith", "Brown", "Wilson", "Taylor", "Walker", "Patel", "Singh", "Chen", "Moana")
_STREETS = ("Queen St", "Cuba St", "Victoria St", "George St", "High St")
_CITIES = (("Auckland", "1010"), ("Wellington", "6011"), ("Christchurch", "8011"), ("Dunedin", "9016"))
_NAMES = ("Merino Tee", "Linen Shirt", "Wool Socks", "Rain Jacket", "Canvas Tote", "Denim Jeans")
_COLOURS = ("Black", "Navy", "Olive", "Sand")
_STATUSES = ("Completed", "Confirmed", "InProgress", "ReadyToDispatch")
_BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
_PAGE = 100  # events that are published together, at one time
_LINES = 4
_SHOPPERS = 50_000
_PRODUCTS = 5_000


def orders(count: int, seed: int = 1) -> Iterator[tuple[str, bytes, RawHeaders]]:
    """Key, value and headers of so many raw orders, as the extractor publishes them; the same for the same seed."""
    dice = random.Random(seed)  # noqa: S311 - test data
    for number in range(count):
        key = str(1_000_000 + number)
        at = _BEGIN + timedelta(seconds=37 * number)
        value = json.dumps({"orders": [_order(key, at, dice)]}, separators=(",", ":")).encode()
        version = Version(number + 1, 0)
        published = _BEGIN + timedelta(seconds=number // _PAGE)
        headers = EventHeaders(Entity.ORDERS, version, Lane.BULK, "bench", published, typed=False)
        yield key, value, headers.encode()


def _order(key: str, at: datetime, dice: random.Random) -> dict[str, object]:
    shopper = dice.randrange(_SHOPPERS)
    first, last = dice.choice(_FIRST), dice.choice(_LAST)
    city, postcode = dice.choice(_CITIES)
    lines = [_line(number, dice) for number in range(_LINES)]
    cents = sum(round(float(line["UnitPrice"]) * 100) * int(line["Quantity"]) for line in lines)
    return {
        "ID": key,
        "Customer": str(shopper),
        "Email": f"{first}.{last}{shopper}@mail.example".lower(),
        "OrderDate": at.strftime("%Y-%m-%dT%H:%M:%S"),
        "DateModified": at.strftime("%Y-%m-%dT%H:%M:%S"),
        "Status": dice.choice(_STATUSES),
        "Website": "1",
        "Total": f"{(cents + 550) / 100:.2f}",
        "FreightTotal": "5.50",
        "DiscountTotal": "0.00",
        "DeliveryMethod": "Courier",
        "Addresses": [
            {
                "Type": "Billing",
                "FirstName": first,
                "LastName": last,
                "ContactPhone": f"+64 21 {dice.randrange(10**7):07}",
                "Street": f"{dice.randrange(1, 400)} {dice.choice(_STREETS)}",
                "City": city,
                "Postcode": postcode,
                "Country": "New Zealand",
            }
        ],
        "Items": lines,
    }


def _line(number: int, dice: random.Random) -> dict[str, str]:
    product = dice.randrange(_PRODUCTS)
    return {
        "ID": str(number + 1),
        "Barcode": f"94{product:011}",
        "Title": f"{_NAMES[product % len(_NAMES)]} {_COLOURS[product % len(_COLOURS)]}",
        "Quantity": str(dice.choice((1, 1, 1, 2, 3))),
        "UnitPrice": f"{(500 + product * 37 % 20_000) / 100:.2f}",
        "UnitDiscount": "0.00",
        "StatusCode": "Ordered",
        "ProductID": str(product),
    }
