"""Times on the wire: ISO 8601 in, UTC out."""

import re
from datetime import UTC, datetime

_SHAPE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?)?")
_SHORTEST, _LONGEST = 10, 35
_FILTER = re.compile(r"gte::(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{3})?Z)")


def parsed(text: str) -> datetime | None:
    """The time that an ISO 8601 text names, in UTC, or None.

    A date alone is its midnight, a time without offset is UTC, and an offset needs its colon.
    """
    if not _SHORTEST <= len(text) <= _LONGEST or text[4] != "-" or not _SHAPE.fullmatch(text):
        return None
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def to_seconds(time: datetime) -> str:
    """`2026-01-02T03:04:05Z`: how a Date data field is kept."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ") if time.year >= 1000 else f"{time:0>4}"  # noqa: PLR2004


def stamp(epoch: float) -> str:
    """`2026-01-02T03:04:05.678Z`: how created and updated are shown."""
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def since(text: str) -> float | None:
    """The epoch seconds of a `gte::` filter, or None where it isn't one."""
    found = _FILTER.fullmatch(text)
    time = parsed(found.group(1)) if found else None
    return None if time is None else time.timestamp()
