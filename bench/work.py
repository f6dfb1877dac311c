"""What the bare loop and the peers do to a record: decode, map, encode with fastavro; no validation, no cleaning of text.

Needs msgspec and fastavro only, so that it runs in a peer's own environment, too.
"""

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import fastavro
import msgspec

_ZONE = ZoneInfo("Pacific/Auckland")
_PREFIX = bytes(10)  # where the single-object header goes
_SCHEMA = fastavro.parse_schema(
    json.loads(
        (Path(__file__).parents[1] / "schemas" / "avro" / "dotdigital.order.v1.avsc").read_text(
            encoding="utf-8"
        )
    )
)
_decode = msgspec.json.Decoder().decode


def transform(value: bytes) -> bytes:
    """A raw order to its payload, trusting every byte of it."""
    order = _decode(value)["orders"][0]
    body = io.BytesIO()
    body.write(_PREFIX)
    fastavro.schemaless_writer(body, _SCHEMA, _document(order))
    return body.getvalue()


def _document(order: dict[str, Any]) -> dict[str, Any]:
    products = []
    subtotal = 0.0
    for line in order["Items"]:
        price, qty = float(line["UnitPrice"]), int(line["Quantity"])
        subtotal += (price - float(line["UnitDiscount"])) * qty
        products.append(
            {
                "name": line["Title"],
                "sku": line["Barcode"],
                "price": price,
                "qty": qty,
                "product_id": line.get("ProductID"),
            }
        )
    address = order["Addresses"][0]
    return {
        "id": order["ID"],
        "email": order["Email"],
        "order_total": float(order["Total"]),
        "order_subtotal": round(subtotal, 2),
        "discount_amount": float(order["DiscountTotal"]),
        "delivery_total": float(order["FreightTotal"]),
        "currency": "NZD",
        "purchase_date": datetime.fromisoformat(order["OrderDate"]).replace(tzinfo=_ZONE).astimezone(UTC),
        "order_status": order["Status"],
        "delivery_method": order.get("DeliveryMethod"),
        "billing_address": {
            "billing_address_1": address.get("Street"),
            "billing_address_2": address.get("Suburb"),
            "billing_city": address.get("City"),
            "billing_region": address.get("State"),
            "billing_country": address.get("Country"),
            "billing_postcode": address.get("Postcode"),
        },
        "delivery_address": None,
        "products": products,
    }
