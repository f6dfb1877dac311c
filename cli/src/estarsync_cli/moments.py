"""Points in time, as people give them on the command line."""

from datetime import UTC, datetime
from typing import Annotated

import typer

_EXAMPLE = "2026-05-01T09:00:00Z or 2026-05-01T21:00:00+12:00"


def moment(text: str) -> datetime:
    """An aware time, in UTC.

    Raises:
        typer.BadParameter: it is no time, or has no zone; a shop's zone is nothing to guess.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no date and time: write it as {_EXAMPLE}") from None
    if found.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no zone: write it as {_EXAMPLE}")
    return found.astimezone(UTC)


Since = Annotated[
    datetime | None, typer.Option(parser=moment, metavar="TIME", help="From then on; with its zone.")
]
Until = Annotated[
    datetime | None, typer.Option(parser=moment, metavar="TIME", help="Before then; with its zone.")
]


def duration(seconds: float) -> str:
    """Some seconds, as people say them: `45 s`, `12 min`, `3.4 h`, `2.1 days`."""
    for limit, unit, name in ((90, 1, "s"), (90 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}" if name != "h" else f"{seconds / unit:.1f} h"
    return f"{seconds / 86_400:.1f} days"
