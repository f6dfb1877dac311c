"""Kafka: clients, topics, errors, restoring a compacted topic."""
