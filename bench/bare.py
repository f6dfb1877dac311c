"""The bare loop: consume, decode, map, encode with fastavro, produce. What any worker must at least do.

No validation, no cleaning of text, no headers, no dead letters, no metrics, no transaction: at least once, flushed
and committed every five seconds. It writes the same Avro body as the transformer does for a clean order.
"""

import io
import json
import os
import signal
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

import fastavro
import msgspec
from confluent_kafka import Consumer, Producer

from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.config import client_config, consumer_config
from estarsync_runtime.settings import KafkaSettings, load

_COMMIT_SECONDS = 5.0
_BATCH = 500
_ZONE = ZoneInfo("Pacific/Auckland")
_PREFIX = bytes(10)  # where the single-object header goes
_SCHEMA = fastavro.parse_schema(
    json.loads(
        files("estarsync_schemas").joinpath("avro", "dotdigital.order.v1.avsc").read_text(encoding="utf-8")
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


def main() -> None:
    """Run until SIGTERM. Environment: as the transformer's."""
    settings, clock = load(KafkaSettings), SystemClock()
    consumer = Consumer(consumer_config(settings, "bench-bare"))
    producer = Producer(
        {
            **client_config(settings),
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "linger.ms": 5,
        }
    )
    consumer.subscribe([settings.topic("estar.orders.v1")])
    target = settings.topic(os.environ["BENCH_TARGET"])
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    last = clock.monotonic()
    while not stopped:
        for message in consumer.consume(_BATCH, 0.1):
            if message.error() is not None:
                continue
            while True:
                try:
                    producer.produce(target, transform(message.value() or b""), message.key())
                    break
                except BufferError:
                    producer.poll(0.01)
        if clock.monotonic() - last > _COMMIT_SECONDS:
            last = clock.monotonic()
            producer.flush()
            try_commit(consumer)
    producer.flush()
    consumer.close()


def try_commit(consumer: Consumer) -> None:
    """Commit what was read."""
    positions = [it for it in consumer.position(consumer.assignment()) if it.offset >= 0]
    if positions:
        consumer.commit(offsets=positions, asynchronous=False)


if __name__ == "__main__":
    main()
