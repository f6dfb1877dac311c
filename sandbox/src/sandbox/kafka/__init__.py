"""A Kafka broker for development and tests."""

from sandbox.kafka.choice import broker
from sandbox.kafka.kinds import Broker, Kind

__all__ = ["Broker", "Kind", "broker"]
