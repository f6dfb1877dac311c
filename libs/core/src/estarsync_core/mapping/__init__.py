"""From a raw event to a Dotdigital payload: one module per entity, pure functions of record and profile."""

MAPPING_REVISION = 1
"""Raise it with every change of what a record maps to: it tells what a mapping has made from what another has. A resync
from raw events has a revision of its own, above all of these."""
