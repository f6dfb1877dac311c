"""By when bytes are gone, from a topic's settings."""

from datetime import UTC, datetime, timedelta

import pytest

from estarsync_core.erasure import keys_gone_by, values_gone_by

AT = datetime(2026, 5, 1, tzinfo=UTC)
DAY = 86_400_000
COMPACTED = {
    "cleanup.policy": "compact",
    "max.compaction.lag.ms": str(30 * DAY),
    "delete.retention.ms": str(30 * DAY),
}


@pytest.mark.parametrize(
    ("config", "values", "keys"),
    [
        ({}, 14, 14),
        ({"retention.ms": str(90 * DAY), "segment.ms": str(DAY)}, 91, 91),
        ({"retention.ms": "-1"}, None, None),
        (COMPACTED, 30, 90),
        ({"cleanup.policy": "compact"}, None, None),
        ({**COMPACTED, "cleanup.policy": "compact,delete", "retention.ms": str(3 * DAY)}, 10, 10),
    ],
)
def test_the_day(config: dict[str, str], values: int | None, keys: int | None) -> None:
    assert values_gone_by(config, AT) == (None if values is None else AT + timedelta(days=values))
    assert keys_gone_by(config, AT) == (None if keys is None else AT + timedelta(days=keys))
