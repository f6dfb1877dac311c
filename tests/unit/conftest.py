"""What unit tests share: a whole extraction in one process, from a sandbox shop to records in memory."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from estarsync_core.clock import Clock
from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord, RetryLater
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.mapping.result import Mapped
from estarsync_core.profile import TenantProfile
from estarsync_core.topics import EXTRACT_DLQ, raw_topic
from estarsync_runtime.estar.soap import Credentials, EstarClient
from estarsync_runtime.estar.source import EstarSource
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.testing import FakeProducer
from estarsync_runtime.tracing import OFF, Tracing
from extractor.app import feeds_of
from extractor.feeds import Feed, Surroundings
from extractor.publisher import Publisher
from extractor.settings import Settings
from extractor.shop import shop_of
from extractor.state import SourceState

_TRIES = 300  # of a step that a fault may hit
_FIRST_LOADS = 3  # the feeds that read everything there is
_POLLS = 4  # those, and the one of modified orders


class Site(Protocol):
    """A shop, such as the sandbox's."""

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        ...


class Extraction:
    """Reads a sandbox shop through a profile, with a log in memory in the place of Kafka."""

    def __init__(
        self, site: Site, profile: TenantProfile, clock: Clock, folder: Path, tracing: Tracing = OFF
    ) -> None:
        self.profile = profile
        self.kafka = FakeProducer()
        self.metrics = Metrics(CollectorRegistry())
        rng = random.Random(1)  # noqa: S311 - spreads pauses
        client = EstarClient(
            httpx.Client(transport=httpx.MockTransport(site.handle)),
            profile,
            "https://shop.example",
            Credentials("sandbox", "sandbox"),
            clock=clock,
            rng=rng,
            metrics=self.metrics,
        )
        self.source = EstarSource(client, profile)
        state = SourceState(folder / "extraction.sqlite")
        settings = Settings.model_construct(estar_base_url="https://shop.example", topic_prefix="")
        publisher = Publisher(settings, self.kafka, state, {}, clock, self.metrics, tracing)
        around = Surroundings(publisher, profile, clock, self.metrics, tracing=tracing)
        cadences = {name: minutes * 60 for name, minutes in profile.cadences.model_dump().items()}
        self._feeds = feeds_of(shop_of(self.source, state, around), state, around, cadences)

    def run(self) -> "Extraction":
        """Read everything once; faults are waited for."""
        return self._run(self._feeds[:_FIRST_LOADS])

    def poll(self) -> "Extraction":
        """Read what changed since."""
        return self._run(self._feeds[:_POLLS])

    def _run(self, feeds: Sequence[Feed]) -> "Extraction":
        for feed in feeds:
            tries = _TRIES
            done = False
            while not done:
                try:
                    done = feed.step()
                except RetryLater:
                    tries -= 1
                    if not tries:
                        raise
        return self

    def raw(self, entity: Entity) -> dict[str, Any]:
        """The latest raw events by key."""
        return {key: msgspec.json.decode(value) for key, value in self._latest(raw_topic(entity)).items()}

    def dead(self) -> dict[str, str]:
        """The codes of the extractor's dead letters, by entity and id."""
        letters = self._latest(EXTRACT_DLQ).items()
        return {key: msgspec.json.decode(value)["code"] for key, value in letters}

    def mapped(self, entity: Entity) -> dict[str, Mapped | InvalidRecord]:
        """What becomes of each of them."""
        mapper = Mapper(self.profile)
        found: dict[str, Mapped | InvalidRecord] = {}
        for key, value in self._latest(raw_topic(entity)).items():
            try:
                found[key] = mapper.record(entity, key, value)
            except InvalidRecord as invalid:
                found[key] = invalid
        return found

    def everything(self) -> str:
        """All that was written and all that metrics show, as text."""
        records = [
            part
            for record in self.kafka.records
            for part in (record.key, record.value, *(value for _, value in record.headers))
        ]
        return b"\n".join([*filter(None, records), generate_latest(self.metrics.registry)]).decode()

    def _latest(self, topic: str) -> dict[str, bytes]:
        values = {(r.key or b"").decode(): r.value for r in self.kafka.records if r.topic == topic}
        return {key: value for key, value in values.items() if value is not None}


@pytest.fixture
def extraction(tmp_path: Path) -> Callable[..., Extraction]:
    """Makes an extraction; it has not run yet."""
    made: list[Extraction] = []

    def make(site: Site, profile: TenantProfile, clock: Clock, tracing: Tracing = OFF) -> Extraction:
        folder = tmp_path / f"extraction-{len(made)}"
        folder.mkdir()
        made.append(Extraction(site, profile, clock, folder, tracing))
        return made[-1]

    return make
