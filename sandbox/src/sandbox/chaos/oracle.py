"""What must hold after a run, by the word of both twins and the topics, never by our services' own counters."""

from collections import Counter
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from estarsync_core.clock import Clock
from estarsync_core.entities import Entity
from estarsync_core.errors import EstarsyncError
from estarsync_core.headers import version_of
from estarsync_core.topics import raw_topic, typed_topic
from estarsync_runtime.dotdigital.connect import DotdigitalSettings
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.kafka.restore import read_topics
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import KafkaSettings
from sandbox.chaos.stage import Stage
from sandbox.demo.proof import Proof, fetch_truth, prove


def agreement(stage: Stage, clock: Clock) -> Proof | None:
    """Both sides compared, record by record; None where that could not be done just now."""
    truth = fetch_truth(httpx.Client(), stage.shop_url)
    account = DotdigitalSettings.model_validate(
        {name.lower(): value for name, value in stage.environment.items() if name.startswith("DOTDIGITAL_")}
    )
    try:
        return prove(truth, stage.kafka, account, clock, Metrics(CollectorRegistry()))
    except EstarsyncError:
        return None


def broken(stage: Stage, proof: Proof | None) -> list[str]:
    """Every invariant that does not hold, a line each."""
    found = [] if proof is not None else ["the two sides could not be compared"]
    if proof is not None:
        found += _disagreements(proof)
    ledger = stage.account.account.ledger
    found += [f"Dotdigital saw {count} times {name}" for name, count in sorted(ledger.by_violation.items())]
    found += [f"{count} mails to shoppers: {kind}" for kind, count in stage.account.account.mails.items()]
    rejected = sum(stage.account.account.limits.rejected.values())
    if rejected:
        found.append(f"{rejected} calls over the quota")
    for entity in Entity:
        found += _numbers(stage.kafka, entity)
    return found


def _disagreements(proof: Proof) -> list[str]:
    found = []
    for entity, each in proof.entities.items():
        if not each.in_agreement:
            samples = [f"{row.key}: {row.kind} {','.join(row.fields)}" for row in each.samples[:5]]
            numbers = f"{each.different} different, {each.missing} missing, {each.extra} extra"
            found.append(f"{entity}: {numbers} ({'; '.join(samples)})")
    if proof.revenue_shop != proof.revenue_dotdigital:
        found.append(f"revenue: {proof.revenue_shop} in the shop, {proof.revenue_dotdigital} at Dotdigital")
    return found


def _numbers(kafka: KafkaSettings, entity: Entity) -> list[str]:
    """Each sequence number was given once, and each raw event became one payload or one dead letter."""
    raw = _sequences(kafka, raw_topic(entity))
    typed = _sequences(kafka, typed_topic(entity))
    found = []
    twice = sorted(number for number, count in raw.items() if count > 1)
    if twice:
        found.append(f"{entity}: sequence numbers given twice: {twice[:5]}")
    twice = sorted(number for number, count in typed.items() if count > 1)
    if twice:
        found.append(f"{entity}: payloads written twice: {twice[:5]}")
    unknown = sorted(typed.keys() - raw.keys())
    if unknown:
        found.append(f"{entity}: payloads of no raw event: {unknown[:5]}")
    return found


def _sequences(kafka: KafkaSettings, topic: str) -> Counter[int]:
    found: Counter[int] = Counter()
    for message in read_topics(kafka, [kafka.topic(topic)]):
        found[version_of(headers_of(message))[0].sequence] += 1
    return found


def tally(stage: Stage) -> dict[str, Any]:
    """What the account saw, for the report."""
    account = stage.account.account
    return {
        "calls": sum(account.ledger.by_status.values()),
        "by_status": {str(status): count for status, count in account.ledger.by_status.items()},
        "imports": dict(account.jobs.accepted),
        "identical_resends": account.jobs.identical_resends,
    }
