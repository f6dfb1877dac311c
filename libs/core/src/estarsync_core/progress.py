"""How far a request has come, all its parts together, and when it will be done."""

import math
from collections.abc import Sequence

from estarsync_core.control import Progress, Words, progress_key


def overall(words: Words, request: str, parts: int) -> Progress | None:
    """A request's progress, whoever obeys it; None before anybody has begun.

    Args:
        words: what stands on the control topic.
        request: its id.
        parts: how many write a part each (partitions), where it is not one that writes it all.

    Raises:
        InvalidRecord: what stands there is not readable.
    """
    whole = words.get(progress_key(request), Progress)
    if whole is not None:
        return whole
    found = list(words.all(f"{progress_key(request)}/", Progress).values())
    if not found:
        return None
    totals = [each.total for each in found if each.total is not None]
    finished = len(found) == parts and all(each.over for each in found)
    states = {each.state for each in found}
    state = found[0].state if len(states) == 1 else "cancelled"
    if not finished:
        state = "running"
    if "refused" in states:
        state = "refused"
    return Progress(
        request,
        state,
        sum(each.done for each in found),
        sum(totals) if len(totals) == parts else None,
        max(each.at for each in found),
        next((each.reason for each in found if each.reason), None),
    )


def seconds_left(remaining: float, rates: Sequence[float]) -> tuple[float, float] | None:
    """The band within which the rest will be done, in seconds from now; None where nothing moves.

    Args:
        remaining: how many records are left.
        rates: records a second, each measured over another stretch of time; the fastest and the slowest make the
            band. A stretch in which nothing moved makes its upper end infinite.
    """
    if remaining <= 0:
        return 0.0, 0.0
    fastest = max(rates, default=0.0)
    if fastest <= 0:
        return None
    slowest = min(rates)
    return remaining / fastest, remaining / slowest if slowest > 0 else math.inf
