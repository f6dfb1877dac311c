"""The learned rate against a simulated server, by the server's own count."""

import math
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from heapq import heappop, heappush
from typing import Literal

from hypothesis import example, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from estarsync_core.rate import FIRST_LIMIT, PATIENCE, WINDOW, QuotaHeaders, Tier, read_headers

TIMEOUT = 121.0
EPOCH = 1_767_225_600.0
Form = Literal["epoch_floor", "epoch_ceil", "epoch_ms", "delta_floor", "delta_ceil"]
FORMS: tuple[Form, ...] = ("epoch_floor", "epoch_ceil", "epoch_ms", "delta_floor", "delta_ceil")


@dataclass
class Server:
    """Counts calls in fixed minutes, one after the other from `phase`, and tells the truth about them."""

    limit: int
    phase: float
    form: Form
    eaten: Counter[int] = field(default_factory=Counter)
    counted: Counter[int] = field(default_factory=Counter)
    rejected: Counter[int] = field(default_factory=Counter)

    def minute(self, now: float) -> int:
        return math.floor((now - self.phase) / WINDOW)

    def eat(self, now: float, calls: int) -> None:
        minute = self.minute(now)
        self.eaten[minute] += min(calls, self.left(minute))

    def left(self, minute: int) -> int:
        return self.limit - self.counted[minute] - self.eaten[minute]

    def take(self, now: float) -> tuple[bool, QuotaHeaders]:
        minute = self.minute(now)
        allowed = self.left(minute) > 0
        (self.counted if allowed else self.rejected)[minute] += 1
        end = self.phase + (minute + 1) * WINDOW
        epoch = EPOCH + now
        resets = {
            "epoch_floor": str(math.floor(EPOCH + end)),
            "epoch_ceil": str(math.ceil(EPOCH + end)),
            "epoch_ms": str(round((EPOCH + end) * 1000)),
            "delta_floor": str(math.floor(end - now)),
            "delta_ceil": str(math.ceil(end - now)),
        }
        headers = {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(self.left(minute)),
            "x-ratelimit-reset": resets[self.form],
            "date": format_datetime(datetime.fromtimestamp(math.floor(epoch), UTC), usegmt=True),
        }
        return allowed, read_headers(headers, math.floor(epoch))


@dataclass(frozen=True)
class Network:
    """How long calls take there and back. A share of them is slow, a share loses its answer."""

    usual: float
    slow: float
    slow_share: float
    lost_share: float

    def latency(self, rng: random.Random) -> tuple[float, float, bool]:
        longest = self.slow if rng.random() < self.slow_share else self.usual
        there, back = rng.uniform(0, longest / 2), rng.uniform(0, longest / 2)
        return there, back, rng.random() < self.lost_share


def run(tier: Tier, server: Server, network: Network, seed: int, minutes: int, eating: float) -> int:
    """Call as often as the tier allows; how many calls that were. `eating` is the other client's calls a minute."""
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    events: list[tuple[float, int, str, int, QuotaHeaders | None, bool]] = []
    now, order, calls = 0.0, 0, 0
    end = minutes * WINDOW
    if eating:
        at = 0.0
        while at < end:
            burst = rng.choice([1, 1, 1, 2, 5, 20])
            at += rng.expovariate(eating / WINDOW / burst)
            order += 1
            heappush(events, (at, order, "eat", burst, None, False))
    fates: dict[int, tuple[float, float, bool]] = {}
    while now < end:
        wait = tier.delay(now)
        if wait == 0:
            number = tier.made(now)
            fates[number] = there, _, _ = network.latency(rng)
            calls, order = calls + 1, order + 1
            heappush(events, (now + there, order, "arrive", number, None, False))
            continue
        if not events or events[0][0] > now + wait:
            now += wait
            continue
        now, _, what, number, headers, rejected = heappop(events)
        if what == "eat":
            server.eat(now, number)
        elif what == "arrive":
            allowed, headers = server.take(now)
            there, back, lost = fates.pop(number)
            order += 1
            if lost:
                heappush(events, (now - there + TIMEOUT, order, "answer", number, None, False))
            else:
                heappush(events, (now + back, order, "answer", number, headers, not allowed))
        else:
            tier.answered(number, now, headers, rejected=rejected)
    return calls


LIMITS = st.integers(1, 60)
PHASES = st.floats(0, WINDOW, exclude_max=True)
SHARES = st.sampled_from([1.0, 0.9, 0.5, 0.1])
ANY_NETWORK = st.builds(
    Network,
    usual=st.sampled_from([0.01, 0.3, 2.0, 10.0]),
    slow=st.sampled_from([5.0, 30.0, 70.0, 120.0]),
    slow_share=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    lost_share=st.sampled_from([0.0, 0.05, 0.5]),
)
PROMPT = st.builds(
    Network,
    usual=st.floats(0.01, PATIENCE),
    slow=st.just(0.0),
    slow_share=st.just(0.0),
    lost_share=st.just(0.0),
)


@given(
    limit=LIMITS,
    phase=PHASES,
    form=st.sampled_from(FORMS),
    share=SHARES,
    network=ANY_NETWORK,
    seed=st.integers(0),
)
@example(5, 0.0, "delta_floor", 1.0, Network(10.0, 120.0, 0.5, 0.5), 0)
@example(8, 1.25, "epoch_ceil", 0.9, Network(0.01, 5.0, 0.05, 0.0), 2)
@settings(max_examples=150, deadline=None)
def test_alone_there_is_never_a_call_over_the_quota(limit, phase, form, share, network, seed):
    server = Server(limit, phase, form)
    run(Tier(share), server, network, seed, minutes=8, eating=0)
    assert server.rejected == {}
    assert all(count <= max(1, int(limit * share)) for count in server.counted.values())


@given(
    limit=LIMITS,
    phase=PHASES,
    form=st.sampled_from(FORMS),
    network=PROMPT,
    seed=st.integers(0),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_beside_another_client_at_most_one_call_a_minute_is_rejected(limit, phase, form, network, seed, data):
    eating = data.draw(st.floats(0.2, 2)) * limit
    server = Server(limit, phase, form)
    run(Tier(), server, network, seed, minutes=8, eating=eating)
    assert all(count <= 1 for count in server.rejected.values()), server.rejected


@given(limit=st.integers(5, 600), phase=PHASES, form=st.sampled_from(FORMS), seed=st.integers(0))
@settings(max_examples=40, deadline=None)
def test_almost_all_of_the_quota_is_used(limit, phase, form, seed):
    network = Network(usual=0.05, slow=0, slow_share=0, lost_share=0)
    server = Server(limit, phase, form)
    calls = run(Tier(), server, network, seed, minutes=8, eating=0)
    # The first minute is careful, and a second or two of each are lost to rounding.
    assert calls >= 7 * min(limit, int(0.95 * WINDOW / 0.05)) * 0.95


@given(limit=st.integers(4, 60), phase=PHASES, form=st.sampled_from(FORMS), seed=st.integers(0))
@settings(max_examples=60, deadline=None)
def test_a_quota_that_is_halved_between_two_minutes_costs_no_call(limit, phase, form, seed):
    tier = Tier()
    network = Network(usual=0.2, slow=0, slow_share=0, lost_share=0)

    class Halved(Server):
        @override
        def take(self, now: float) -> tuple[bool, QuotaHeaders]:
            self.limit = limit if self.minute(now) < 3 else limit // 2
            return super().take(now)

    server = Halved(limit, phase, form)
    run(tier, server, network, seed, minutes=6, eating=0)
    assert server.rejected == {}
    assert tier.limit == limit // 2


@dataclass
class Silent:
    """Allows so many calls in any minute, and says nothing but no."""

    limit: int
    times: list[float] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)

    def take(self, now: float) -> bool:
        allowed = sum(now - WINDOW < at for at in self.times[-self.limit :]) < self.limit
        (self.times if allowed else self.rejected).append(now)
        return allowed


def trial(tier: Tier, server: Silent, begin: float, end: float, latency: float) -> None:
    now = begin
    while now < end:
        wait = tier.delay(now)
        if wait:
            now += wait
            continue
        number, allowed = tier.made(now), server.take(now)
        now += latency
        tier.answered(number, now, QuotaHeaders(), rejected=not allowed)


@given(limit=st.integers(2, 90), latency=st.sampled_from([0.01, 0.2, 0.6]))
@settings(max_examples=40, deadline=None)
def test_without_headers_the_quota_is_found_by_trial(limit, latency):
    tier, server = Tier(), Silent(limit)
    trial(tier, server, 0, 3600, latency)
    end = len(server.times)
    trial(tier, server, 3600, 7200, latency)
    used = len(server.times) - end
    assert used >= 0.5 * 60 * min(limit, FIRST_LIMIT), "it never dares less than half of what is allowed"
    # One refusal costs half of the calls: they grow back one by one, so it takes half the quota's minutes to the next.
    late = sum(at >= 3600 for at in server.rejected)
    assert late <= 60 / max(1, min(limit, FIRST_LIMIT) / 2) + 1
    assert tier.guess <= limit + 1


@given(limit=st.integers(8, 60), factor=st.sampled_from([0.5, 2.0]))
@settings(max_examples=20, deadline=None)
def test_without_headers_a_quota_that_changes_is_found_again(limit, factor):
    tier, server = Tier(), Silent(limit)
    trial(tier, server, 0, 3600, 0.05)
    server.limit = int(limit * factor)
    trial(tier, server, 3600, 7200, 0.05)
    late = [at for at in server.times if at >= 5400]
    assert len(late) >= 0.5 * 30 * min(server.limit, limit)
    assert tier.guess <= server.limit + 1


@given(limit=st.integers(4, 600), phase=PHASES, form=st.sampled_from(FORMS), seed=st.integers(0))
@settings(max_examples=40, deadline=None)
def test_paced_calls_use_the_quota_as_well_and_never_leave_an_urgent_one_without(limit, phase, form, seed):
    """Bulk calls leave one call over; an urgent one that comes at any time goes within a few intervals."""
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    server, tier = Server(limit, phase, form), Tier()
    now, urgent, waits = 0.0, rng.uniform(0, 60), []
    while now < 6 * WINDOW:
        spare = now < urgent
        wait = max(tier.delay(now), tier.pace(now, spare=spare))
        if wait > 0:
            now = min(now + wait, urgent) if spare else now + wait
            continue
        if not spare:
            waits.append(now - urgent)
            urgent = now + rng.uniform(20, 60)
        number = tier.made(now)
        allowed, headers = server.take(now)
        now += 0.02
        tier.answered(number, now, headers, rejected=not allowed)
    assert server.rejected == {}
    # The first minute is careful; between two minutes nobody knows for a moment which one it is.
    assert all(wait <= 4 + 2 * tier.interval for wait in waits[3:]), waits
    whole = [count for minute, count in server.counted.items() if 2 <= minute < server.minute(now)]
    assert all(count >= 0.85 * min(limit, 45 / 0.02) - 1 for count in whole), whole


@given(limit=st.integers(4, 60), phase=PHASES, form=st.sampled_from(FORMS), seed=st.integers(0))
@settings(max_examples=40, deadline=None)
def test_a_quota_that_is_doubled_in_mid_run_is_used(limit, phase, form, seed):
    tier = Tier()

    class Doubled(Server):
        @override
        def take(self, now: float) -> tuple[bool, QuotaHeaders]:
            self.limit = limit if self.minute(now) < 3 else 2 * limit
            return super().take(now)

    server = Doubled(limit, phase, form)
    run(tier, server, Network(usual=0.2, slow=0, slow_share=0, lost_share=0), seed, minutes=8, eating=0)
    assert server.rejected == {}
    assert max(server.counted.values()) >= 1.9 * limit
