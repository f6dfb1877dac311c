"""How the whole is doing: read from Kafka, and from the services' own metrics where they can be reached."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
import msgspec
from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient
from prometheus_client.parser import text_string_to_metric_families

from estarsync_cli.following import all_requests, as_document, progress_of
from estarsync_cli.lanes import stopped
from estarsync_core.control import Words, is_over
from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_core.estar.checkpoint import decode_checkpoint
from estarsync_core.estar.removal import Approval, Hold, approval_key, hold_key
from estarsync_core.progress import seconds_left
from estarsync_core.topics import CHECKPOINTS, DELIVERIES, IMPORTS, raw_topic, typed_topic
from estarsync_runtime.kafka.config import client_config
from estarsync_runtime.kafka.extent import Extents, Lag
from estarsync_runtime.kafka.lookup import Lookup
from estarsync_runtime.kafka.restore import read_topics
from estarsync_runtime.settings import KafkaSettings

_TIMEOUT = 10.0
_SCRAPE_SECONDS = 3.0
GROUPS = {
    "extractor": "estarsync-extractor-leader",
    "transformer": "estarsync-transformer",
    "loader": "estarsync-loader-leader",
}
_READS = {"transformer": raw_topic, "loader": typed_topic}
_STRETCHES = (60.0, 300.0, 900.0)  # seconds over which the speed is measured
_IMPORTS_OPEN = timedelta(hours=3)  # beyond the loader's deadline for an import
_TIERS = "estarsync_dotdigital_quota_"
_RECORDS = "estarsync_loader_records_total"
_FIRST_LOAD = "estarsync_extractor_first_load_"
Sample = tuple[str, dict[str, str], float]


@dataclass(slots=True)
class Service:
    """One process, as it says itself."""

    url: str
    name: str = "?"
    ready: bool = False
    leads: bool | None = None
    problem: str | None = None


@dataclass(slots=True)
class Backlog:
    """What waits before a service.

    Attributes:
        lag: in records, and since when the oldest waits.
        speed: records a second over the last minute, five and fifteen; empty where it is not measured.
        left: seconds until nothing waits, as a band, at those speeds; None where nothing moves.
    """

    service: str
    entity: Entity
    lag: Lag
    speed: list[float] = field(default_factory=list)

    @property
    def left(self) -> tuple[float, float] | None:
        """Seconds until nothing waits, as a band; None where nothing moves, or nothing is measured."""
        return seconds_left(self.lag.records, self.speed)


@dataclass(slots=True)
class Condition:
    """All that is known at one moment.

    Attributes:
        members: processes of each service that Kafka knows of, standbys included.
        services: those whose address was given.
        feeds: how far the extractor has read each feed, and whether its first load is over.
        backlogs: before the transformer and the loader.
        imports: open at Dotdigital, by entity.
        delivered: attempts of the last quarter of an hour, by entity and outcome.
        metrics: what the services count themselves, since they started.
        stops: lanes that are stopped.
        holds: removals that wait for a person.
        requests: that are not over.
        blocked: shoppers who were erased.
    """

    at: datetime
    members: dict[str, int | None] = field(default_factory=dict)
    services: list[Service] = field(default_factory=list)
    feeds: list[dict[str, Any]] = field(default_factory=list)
    backlogs: list[Backlog] = field(default_factory=list)
    imports: Counter[Entity] = field(default_factory=Counter)
    delivered: Counter[tuple[Entity, str]] = field(default_factory=Counter)
    metrics: list[Sample] = field(default_factory=list)
    stops: dict[Entity, Any] = field(default_factory=dict)
    holds: dict[Entity, Hold] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    blocked: int = 0

    @property
    def problems(self) -> list[str]:
        """What a person should look at."""
        found = [f"no {name} runs" for name, count in self.members.items() if count == 0]
        found += [f"{each.name} at {each.url}: {each.problem}" for each in self.services if each.problem]
        found += [f"the lane of {entity} is stopped: see `estarsync lanes list`" for entity in self.stops]
        found += [
            f"removals of {entity} are held back: see `estarsync removals list`" for entity in self.holds
        ]
        return found

    def counted(self, name: str, label: str) -> dict[str, float]:
        """A metric's values by one of its labels, summed over the rest and over processes."""
        found: dict[str, float] = {}
        for each, labels, value in self.metrics:
            if each == name and label in labels:
                found[labels[label]] = found.get(labels[label], 0.0) + value
        return found


def look(settings: KafkaSettings, urls: Sequence[str], words: Words, now: datetime) -> Condition:
    """Gather everything; blocks for some seconds.

    Args:
        settings: which Kafka.
        urls: the services' own addresses (`HTTP_PORT`).
        words: what stands on the control topic.
        now: the time.
    """
    condition = Condition(now, members=_members(settings), blocked=len(words.blocked))
    condition.stops = dict(stopped(words))
    condition.holds = dict(_holds(words))
    condition.requests = [
        as_document(each, come)
        for each in all_requests(words)
        if (come := progress_of(words, each)) is None or not is_over(each, come)
    ]
    condition.feeds = list(_feeds(settings, now))
    for url in urls:
        service, samples = _scrape(url.rstrip("/"))
        condition.services.append(service)
        condition.metrics += samples
    topics = [DELIVERIES, IMPORTS]
    with closing(Lookup(settings, topics)) as lookup:
        condition.imports = _open_imports(lookup, now)
        times = _attempts(lookup, now, condition.delivered)
    every = [topic(entity) for topic in _READS.values() for entity in Entity]
    with closing(Extents(settings, every)) as extents:
        for service_name, topic in _READS.items():
            for entity in Entity:
                backlog = Backlog(
                    service_name, entity, extents.lag(topic(entity), f"estarsync-{service_name}")
                )
                if service_name == "loader":
                    backlog.speed = [_within(times[entity], stretch) / stretch for stretch in _STRETCHES]
                condition.backlogs.append(backlog)
    return condition


def _members(settings: KafkaSettings) -> dict[str, int | None]:
    """How many processes of each service are in their groups; None where Kafka does not say."""
    admin = AdminClient(client_config(settings))
    names = {f"{settings.topic_prefix}{group}": service for service, group in GROUPS.items()}
    found: dict[str, int | None] = {}
    for name, future in admin.describe_consumer_groups(list(names), request_timeout=_TIMEOUT).items():
        try:
            group = future.result()
        except KafkaException:  # a group that never was, or no right to look
            found[names[name]] = None
        else:
            found[names[name]] = 0 if group.state == ConsumerGroupState.DEAD else len(group.members)
    return found


def _holds(words: Words) -> Iterator[tuple[Entity, Hold]]:
    for entity in Entity:
        hold, approval = words.get(hold_key(entity), Hold), words.get(approval_key(entity), Approval)
        if hold is not None and (approval is None or approval.id != hold.id):
            yield entity, hold


def _feeds(settings: KafkaSettings, now: datetime) -> Iterator[dict[str, Any]]:
    values: dict[str, bytes] = {}
    for message in read_topics(settings, [settings.topic(CHECKPOINTS)]):
        values[(message.key() or b"").decode("utf-8", "replace")] = message.value() or b""
    for entity, value in values.items():
        try:
            checkpoint = decode_checkpoint(value)
        except msgspec.DecodeError as error:
            raise InvalidRecord(f"{CHECKPOINTS}[{entity}]", "unreadable") from error
        for name, mark in checkpoint.feeds.items():
            yield {
                "entity": entity,
                "feed": name,
                "read_until": mark.cursor,
                "age_seconds": max(0.0, round((now - mark.cursor).total_seconds(), 1)),
                "first_load_done": mark.first_load_done,
                "events": checkpoint.sequence,
            }


def _scrape(url: str) -> tuple[Service, list[Sample]]:
    service = Service(url)
    try:
        ready = httpx.get(f"{url}/readyz", timeout=_SCRAPE_SECONDS)
        text = httpx.get(f"{url}/metrics", timeout=_SCRAPE_SECONDS).raise_for_status().text
        samples = [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        service.problem = f"does not answer ({type(error).__name__}): check the address, and that it runs"
        return service, []
    service.ready = ready.is_success
    if not service.ready:
        service.problem = "is not ready: see its log"
    for name, labels, value in samples:
        if name == "estarsync_info":
            service.name = labels.get("service", "?")
        if name == "estarsync_leader":
            service.leads = value == 1
    return service, samples


def _open_imports(lookup: Lookup, now: datetime) -> Counter[Entity]:
    found: dict[bytes, Entity] = {}
    for message in lookup.where(IMPORTS, lambda _: True, now - _IMPORTS_OPEN):
        batch, value = message.key() or b"", message.value() or b""
        if value.startswith(b'{"state":"closed"'):
            found.pop(batch, None)
        elif value.startswith(b'{"state":"accepted"'):
            found[batch] = Entity(msgspec.json.decode(value)["entity"])
    return Counter(found.values())


def _attempts(
    lookup: Lookup, now: datetime, counts: Counter[tuple[Entity, str]]
) -> dict[Entity, list[float]]:
    """The ages in seconds of the latest attempts, by entity; counts them by outcome too."""
    ages: dict[Entity, list[float]] = {entity: [] for entity in Entity}
    moment = now.timestamp()
    for message in lookup.where(DELIVERIES, lambda _: True, now - timedelta(seconds=_STRETCHES[-1])):
        entity = Entity((message.key() or b"").partition(b":")[0].decode())
        row = msgspec.json.decode(message.value() or b"{}")
        counts[entity, str(row.get("outcome"))] += 1
        if row.get("outcome") != "retry":
            ages[entity].append(moment - message.timestamp()[1] / 1000)
    return ages


def _within(ages: Sequence[float], seconds: float) -> int:
    return sum(age <= seconds for age in ages)


def quota(condition: Condition) -> list[dict[str, Any]]:
    """What is left of each tier's calls, where the loader can be reached."""
    left = condition.counted(f"{_TIERS}remaining", "tier")
    limits = condition.counted(f"{_TIERS}limit", "tier")
    return [{"tier": tier, "left": value, "limit": limits.get(tier)} for tier, value in sorted(left.items())]


def outcomes(condition: Condition) -> dict[str, dict[str, float]]:
    """Records by entity and outcome since the loader started, where it can be reached."""
    found: dict[str, dict[str, float]] = {}
    for name, labels, value in condition.metrics:
        if name == _RECORDS and value:
            found.setdefault(labels["entity"], {})[labels["outcome"]] = value
    return found


def first_loads(condition: Condition) -> dict[str, dict[str, float]]:
    """How far the extractor is with its first load, by entity, as it says itself where it can be reached."""
    found: dict[str, dict[str, float]] = {}
    for name, labels, value in condition.metrics:
        if name.startswith(_FIRST_LOAD) and "entity" in labels:
            more = "_".join(content for label, content in sorted(labels.items()) if label != "entity")
            key = "_".join(filter(None, (name.removeprefix(_FIRST_LOAD), more)))
            found.setdefault(labels["entity"], {})[key] = value
    return found
