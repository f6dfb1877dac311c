"""What a resync would change at Dotdigital, found out without changing anything."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from confluent_kafka import Message

from estarsync_cli.connection import dotdigital
from estarsync_core.control import Resync
from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.topics import raw_topic, typed_topic
from estarsync_runtime.avro import codec_for
from estarsync_runtime.dotdigital.connect import DotdigitalSettings
from estarsync_runtime.dotdigital.provisioning import existing
from estarsync_runtime.kafka.lookup import Lookup
from estarsync_runtime.reconcile import Comparison, Reconciler
from estarsync_runtime.settings import KafkaSettings, read_profile

LARGEST_IMPORT = 50_000
SMALL_IMPORT = 5_000


class Settings(KafkaSettings, DotdigitalSettings):
    """What a dry run needs; the profile only where events are mapped again."""

    tenant_profile: Path | None = None


@dataclass(slots=True)
class Preview:
    """What a resync would do.

    Attributes:
        selected: records that it would replay, the latest of each key.
        comparison: with what Dotdigital holds: `missing` would be created, `different` changed, `agree` stays.
        rejected: records that would become dead letters, by field and code.
    """

    selected: int
    comparison: Comparison
    rejected: Counter[str] = field(default_factory=Counter)

    def sent(self, *, force: bool) -> int:
        """How many records would be sent to Dotdigital."""
        found = self.comparison
        return self.selected if force else found.missing + found.different

    def imports(self, *, force: bool) -> tuple[int, int]:
        """The fewest imports that this takes, and how many there are where each is small."""
        sent = self.sent(force=force)
        return ceil(sent / LARGEST_IMPORT), ceil(sent / SMALL_IMPORT)

    def document(self, *, force: bool) -> dict[str, Any]:
        """As plain data, without samples."""
        fewest, most = self.imports(force=force)
        found = self.comparison
        return {
            "selected": self.selected,
            "created": found.missing,
            "changed": found.different,
            "unchanged": found.agree,
            "rejected": dict(self.rejected),
            "sent": self.sent(force=force),
            "imports": {"fewest": fewest, "most": most},
        }


def preview(settings: Settings, request: Resync) -> Preview:
    """Read Dotdigital back and compare it with what the resync would send. Blocks; changes nothing.

    Raises:
        ConfigurationError: a setting is missing or wrong, or the account is not provisioned.
        RetryLater, Stop: Dotdigital fails or refuses.
    """
    topic = raw_topic(request.entity) if request.source == "raw" else typed_topic(request.entity)
    with ExitStack() as stack:
        client = stack.enter_context(dotdigital(settings))
        account = existing(client, settings)
        reconciler = stack.enter_context(
            closing(Reconciler(settings, client, account, settings.contact_scope))
        )
        lookup = stack.enter_context(closing(Lookup(settings, [topic])))
        replay = _Replay(settings, request, topic)
        selected = reconciler.only(request.entity, replay.documents(lookup))
        comparison = reconciler.compare(request.entity)
    return Preview(selected, comparison, Counter(replay.rejected.values()))


class _Replay:
    def __init__(self, settings: Settings, request: Resync, topic: str) -> None:
        self._request = request
        self._topic = topic
        self._codec = codec_for(settings)
        self._mapper = None
        if request.source == "raw":
            self._mapper = Mapper(read_profile(settings.tenant_profile or Path("TENANT_PROFILE is not set")))
        self.rejected: dict[str, str] = {}

    def documents(self, lookup: Lookup) -> Iterator[tuple[str, bytes | None]]:
        """Each record as it would be written; a later record of a key makes an earlier one void."""
        keys = self._request.keys
        if keys is None:
            messages = lookup.where(self._topic, lambda _: True, self._request.since)
        else:
            wanted = [key.encode() for key in keys]
            messages = (each for _, each in lookup.by_key({self._topic: wanted}, self._request.since))
        for message in messages:
            key = (message.key() or b"").decode("utf-8", "replace")
            self.rejected.pop(key, None)
            yield key, self._document(key, message)

    def _document(self, key: str, message: Message) -> bytes | None:
        value = message.value()
        until = self._request.until
        if value is None or (until is not None and message.timestamp()[1] >= until.timestamp() * 1000):
            return None
        entity: Entity = self._request.entity
        try:
            if self._mapper is None:
                self._codec.decode(entity, value)
                return value
            document = self._mapper.record(entity, key, value).document
        except InvalidRecord as error:
            self.rejected[key] = str(error)
            return None
        return None if document is None else self._codec.encode(entity, document)
