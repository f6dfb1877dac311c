"""From a raw event to a Dotdigital payload: one module per entity, pure functions of record and profile."""

MAPPING_REVISION = 1
"""Raise it with every change of what a record maps to: a resync from raw events is then newer than what it
replaces."""
