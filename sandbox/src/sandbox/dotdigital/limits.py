"""Quota: calls per tier and minute, or per hour in the flat scheme."""

import math
from collections import Counter, deque
from dataclasses import dataclass
from typing import Literal

from sandbox.dotdigital.options import Limits, Tier

MINUTE = 60
HOUR = 3600
Metered = Literal["low", "medium", "high"]
METERED: tuple[Metered, ...] = ("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a call may be made, and what its answer's headers say."""

    allowed: bool
    headers: dict[str, str]


@dataclass(slots=True)
class _Window:
    """One tier's current minute, and the worst minute so far."""

    minute: int = -1
    used: int = 0
    asked: int = 0
    most_used: int = 0
    most_asked: int = 0
    over: int = 0  # minutes in which more was asked than allowed
    counted_over: bool = False

    def roll(self, now: float) -> None:
        minute = int(now // MINUTE)
        if minute != self.minute:
            self.minute = minute
            self.used = self.asked = 0
            self.counted_over = False


class RateLimits:
    """The account's quota; one minute is the clock's, and all tiers are counted apart."""

    def __init__(self) -> None:
        self._windows: dict[Metered, _Window] = {tier: _Window() for tier in METERED}
        self._hour: deque[float] = deque()
        self.rejected: Counter[str] = Counter()
        self.other_client: dict[Metered, float] = {}
        """Calls a minute that somebody else makes with the same account."""

    def take(self, tier: Tier, now: float, limits: Limits) -> Verdict:
        """Count a call, if it is allowed.

        Args:
            tier: the call's; an unlimited one is always allowed and says nothing.
            now: epoch seconds.
            limits: what is allowed at this moment.
        """
        self._forget(now)
        if limits.scheme == "flat":
            if len(self._hour) >= limits.flat_per_hour:
                self.rejected["flat"] += 1
                return Verdict(allowed=False, headers={})
            self._hour.append(now)
            return Verdict(allowed=True, headers={})
        if tier == "unlimited":
            self._hour.append(now)
            return Verdict(allowed=True, headers={})
        window = self._windows[tier]
        window.roll(now)
        window.asked += 1
        window.most_asked = max(window.most_asked, window.asked)
        allowed = self._left(tier, now, limits) > 0
        if allowed:
            self._hour.append(now)
            window.used += 1
            window.most_used = max(window.most_used, window.used)
        else:
            self.rejected[tier] += 1
            if not window.counted_over:
                window.over += 1
                window.counted_over = True
        return self.look(tier, now, limits, allowed=allowed)

    def look(self, tier: Tier, now: float, limits: Limits, *, allowed: bool = True) -> Verdict:
        """What the headers would say, without counting a call."""
        if limits.scheme == "flat" or tier == "unlimited":
            return Verdict(allowed=allowed, headers={})
        self._windows[tier].roll(now)
        remaining = max(0, self._left(tier, now, limits)) if allowed else 0
        end = (int(now // MINUTE) + 1) * MINUTE
        wait = math.ceil(end - now)
        headers = {
            "X-RateLimit-Limit": str(getattr(limits, tier)),
            "X-RateLimit-Remaining": str(remaining),
            "X-RateLimit-Reset": str(end if limits.reset == "epoch" else wait),
            "X-RateLimit-Scope": f"{tier}CallRate",
        }
        if limits.retry_after and not allowed:
            headers["Retry-After"] = str(wait)
        return Verdict(allowed=allowed, headers=headers)

    def last_hour(self, now: float) -> int:
        """Calls within the last hour."""
        self._forget(now)
        return len(self._hour)

    def summary(self, limits: Limits) -> dict[str, dict[str, int]]:
        """Per tier: the limit, the busiest minute, and the minutes in which too much was asked."""
        return {
            tier: {
                "limit": getattr(limits, tier),
                "max_accepted": window.most_used,
                "max_asked": window.most_asked,
                "windows_over": window.over,
                "rejected": self.rejected[tier],
            }
            for tier, window in self._windows.items()
        }

    def _left(self, tier: Metered, now: float, limits: Limits) -> int:
        window = self._windows[tier]
        others = int(self.other_client.get(tier, 0.0) * (now % MINUTE) / MINUTE)
        allowed: int = getattr(limits, tier)
        return allowed - window.used - others

    def _forget(self, now: float) -> None:
        while self._hour and self._hour[0] <= now - HOUR:
            self._hour.popleft()
