"""The topics, as declared in schemas/topics: names, keys, writers, partitions, retention."""

from importlib.resources import files
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field

from estarsync_core.entities import Entity

CHECKPOINTS = "estarsync.checkpoints.v1"
SOURCE_STATE = "estarsync.source-state.v1"
EXTRACT_DLQ = "estarsync.extract.dlq.v1"
IMPORTS = "estarsync.imports.v1"
DELIVERED = "estarsync.delivered.v1"
DELIVERIES = "estarsync.deliveries.v1"
CONTROL = "estarsync.control.v1"
NOTIFICATIONS = "estar.notifications.v1"


class TopicSpec(BaseModel):
    """One topic; `config` holds Kafka's own topic settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str
    key: str
    value: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    partitions: Annotated[int, Field(ge=1)]
    config: dict[str, str | int]


def raw_topic(entity: Entity) -> str:
    """The topic of an entity's raw events, without prefix."""
    return f"estar.{entity}.v1"


def typed_topic(entity: Entity) -> str:
    """The topic of an entity's Dotdigital payloads, without prefix."""
    return f"dotdigital.{entity}.v1"


def dlq_topic(topic: str) -> str:
    """The dead-letter topic of an input topic."""
    return f"{topic}.dlq"


def declared_topics() -> list[TopicSpec]:
    """Every declared topic, by name, without prefix."""
    folder = files("estarsync_schemas").joinpath("topics")
    texts = [entry.read_text(encoding="utf-8") for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    return sorted((TopicSpec.model_validate(yaml.safe_load(text)) for text in texts), key=lambda t: t.name)
