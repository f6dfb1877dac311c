"""The proof: the shop's own truth, what was sent, and what Dotdigital holds, side by side."""

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx
import msgspec
from rich.console import Console
from rich.table import Table

from estarsync_core.clock import Clock
from estarsync_core.deadletters import CODE, FIELD
from estarsync_core.entities import Entity
from estarsync_core.keys import record_key
from estarsync_core.topics import EXTRACT_DLQ, dlq_topic, raw_topic, typed_topic
from estarsync_runtime.dotdigital.connect import DotdigitalSettings, connect
from estarsync_runtime.dotdigital.provisioning import existing
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.kafka.restore import read_topics
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.reconcile import Comparison, Reconciler
from estarsync_runtime.settings import KafkaSettings


@dataclass(slots=True)
class Proof:
    """How the shop and Dotdigital compare, per entity.

    Attributes:
        entities: the comparison of each; what the shop has and nobody sent counts as missing, what was sent and
            the shop does not have as extra.
        dead_letters: records that could not be used, by reason; each is in a dead-letter topic.
        filtered: records that the profile keeps out, such as unpaid orders.
        revenue_shop: the sum of the order totals in the shop.
        revenue_dotdigital: the sum of the order totals at Dotdigital.
    """

    entities: dict[Entity, Comparison] = field(default_factory=dict)
    dead_letters: dict[Entity, Counter[str]] = field(default_factory=dict)
    filtered: dict[Entity, int] = field(default_factory=dict)
    revenue_shop: Decimal = Decimal(0)
    revenue_dotdigital: Decimal = Decimal(0)

    @property
    def in_agreement(self) -> bool:
        """Whether both sides hold the same, to the last record and cent."""
        same = all(each.in_agreement for each in self.entities.values())
        return same and self.revenue_shop == self.revenue_dotdigital

    def document(self) -> dict[str, Any]:
        """The proof as plain data, for the report file."""
        return {
            "in_agreement": self.in_agreement,
            "entities": {
                name: {
                    "agree": each.agree,
                    "different": each.different,
                    "missing": each.missing,
                    "extra": each.extra,
                    "dead_letters": self.dead_letters[name].total(),
                    "dead_letter_reasons": dict(self.dead_letters[name]),
                    "filtered": self.filtered[name],
                }
                for name, each in self.entities.items()
            },
            "revenue": {"shop": f"{self.revenue_shop:.2f}", "dotdigital": f"{self.revenue_dotdigital:.2f}"},
        }


def prove(
    truth: dict[str, Any],
    kafka: KafkaSettings,
    dotdigital: DotdigitalSettings,
    clock: Clock,
    metrics: Metrics,
) -> Proof:
    """Read both sides and compare; blocks for the read-back.

    Args:
        truth: what the sandbox shop says of itself, by its own rules.
        kafka: where the payloads are.
        dotdigital: the account.
        clock: for the quota.
        metrics: where calls are counted.
    """
    proof = Proof(revenue_shop=Decimal(truth["revenue"]))
    letters = _dead_letters(kafka)
    with (
        connect(dotdigital, clock, metrics) as client,
        closing(
            Reconciler(kafka, client, existing(client, dotdigital), dotdigital.contact_scope)
        ) as reconciler,
    ):
        for entity in Entity:
            result = reconciler.compare(entity)
            sent = set(reconciler.expected_keys(entity))
            wanted = _wanted(entity, truth[entity]["expected"])
            left = set(truth[entity].get("left", ()))  # renamed, or kept for past orders: both are right
            _add_shop_side(result, sent - left, wanted - left)
            proof.entities[entity] = result
            proof.dead_letters[entity] = letters[entity]
            proof.filtered[entity] = int(truth[entity].get("filtered", 0))
    proof.revenue_dotdigital = proof.entities[Entity.ORDERS].revenue_actual
    return proof


def _wanted(entity: Entity, rows: list[Any]) -> set[str]:
    if entity is Entity.CONTACTS:
        return set(rows)
    return {record_key(row["id"] if entity is Entity.ORDERS else row) for row in rows}


def _add_shop_side(result: Comparison, sent: set[str], wanted: set[str]) -> None:
    for key in sorted(wanted - sent):
        result.missing += 1
        result.note(key, "missing", [])
    for key in sorted(sent - wanted):
        result.extra += 1
        result.agree -= 1
        result.note(key, "extra", [])


def _dead_letters(kafka: KafkaSettings) -> dict[Entity, Counter[str]]:
    """The dead letters of each entity, counted by reason."""
    found: dict[Entity, Counter[str]] = {entity: Counter() for entity in Entity}
    for entity in Entity:
        topics = [kafka.topic(dlq_topic(name)) for name in (raw_topic(entity), typed_topic(entity))]
        for message in read_topics(kafka, topics):
            facts = dict(headers_of(message))
            field, code = (facts.get(name) or b"" for name in (FIELD, CODE))
            found[entity][f"{field.decode()}: {code.decode()}"] += 1
    for message in read_topics(kafka, [kafka.topic(EXTRACT_DLQ)]):
        entity = Entity((message.key() or b"").decode().partition(":")[0])
        found[entity][str(msgspec.json.decode(message.value() or b"{}").get("code"))] += 1
    return found


def show(proof: Proof, console: Console) -> None:
    """The table for people."""
    table = Table(
        "", "agree", "different", "missing", "extra", "dead letters", "filtered", title="Shop and Dotdigital"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for name, each in proof.entities.items():
        numbers = (
            each.agree,
            each.different,
            each.missing,
            each.extra,
            proof.dead_letters[name].total(),
            proof.filtered[name],
        )
        table.add_row(name, *(f"{number:,}" for number in numbers))
    console.print(table)
    console.print(
        f"revenue: {proof.revenue_shop:,.2f} in the shop, {proof.revenue_dotdigital:,.2f} at Dotdigital",
        highlight=False,
    )
    _show_dead_letters(proof, console)
    for name, each in proof.entities.items():
        for sample in each.samples:
            fields = f" in {', '.join(sample.fields)}" if sample.fields else ""
            console.print(f"  {name} {sample.key}: {sample.kind}{fields}", markup=False, highlight=False)


def _show_dead_letters(proof: Proof, console: Console) -> None:
    if not any(letters for letters in proof.dead_letters.values()):
        return
    console.print("dead letters, with their reason:", highlight=False)
    for name, letters in proof.dead_letters.items():
        for reason, count in sorted(letters.items()):
            console.print(f"  {count:,} of {name}: {reason}", markup=False, highlight=False)


def fetch_truth(http: httpx.Client, shop: str, seconds: float = 60.0) -> dict[str, Any]:
    """What the sandbox shop says of itself, within so many seconds."""
    answer = http.get(f"{shop}/sandbox/truth", timeout=seconds)
    answer.raise_for_status()
    truth: dict[str, Any] = answer.json()
    return truth
