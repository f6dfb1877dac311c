"""Leadership on a real Kafka: processes that are killed, frozen, stopped, and started again for ever."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from estarsync_core.errors import ConfigurationError
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.health import Health
from estarsync_runtime.kafka.leader import Leadership, LeadershipLost
from estarsync_runtime.lifecycle import StopSignal
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import KafkaSettings
from sandbox.kafka import Broker

pytestmark = pytest.mark.kafka

CLOCK = SystemClock()
A_MEMBER = """
import sys
from prometheus_client import CollectorRegistry
from estarsync_core.errors import Fenced
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.health import Health
from estarsync_runtime.kafka.leader import Leadership, LeadershipLost
from estarsync_runtime.lifecycle import StopSignal
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import KafkaSettings, load

clock, stop = SystemClock(), StopSignal()
member = Leadership(load(KafkaSettings), "rehearsal", Metrics(CollectorRegistry()))
print("up", flush=True)
while True:
    try:
        member.wait(stop, Health(clock))
        print("leads", flush=True)
        while True:
            member.check()
            clock.sleep(0.05)
    except LeadershipLost:
        print("lost", flush=True)
    except Fenced:
        print("fenced", flush=True)
        sys.exit(3)
"""


class Member:
    """A process that stands for election and says what it is told."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", A_MEMBER], env=environment, stdout=out, stderr=subprocess.STDOUT
            )

    @property
    def words(self) -> list[str]:
        known = {"up", "leads", "lost", "fenced"}
        return [line for line in self._log.read_text(encoding="utf-8").splitlines() if line in known]

    def wait_for(self, word: str, times: int = 1) -> None:
        wait_until(lambda: self.words.count(word) >= times, self._log)


def wait_until(condition: Callable[[], bool], log: Path | None = None, seconds: float = 60) -> None:
    deadline = CLOCK.monotonic() + seconds
    while not condition():
        assert CLOCK.monotonic() < deadline, log and log.read_text(encoding="utf-8")
        CLOCK.sleep(0.05)


@pytest.fixture
def member(kafka: Broker, prefix: str, tmp_path: Path) -> Iterator[Callable[[], Member]]:
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "TOPIC_PREFIX": prefix}
    members: list[Member] = []

    def start() -> Member:
        members.append(Member(environment, tmp_path / f"member-{len(members)}.log"))
        return members[-1]

    with ExitStack() as stack:

        def end() -> None:
            for each in members:
                each.process.kill()
                each.process.wait(30)

        stack.callback(end)
        yield start


@pytest.mark.usefixtures("topics")
def test_of_two_one_leads_and_the_other_takes_over_when_it_is_killed(member: Callable[[], Member]) -> None:
    first = member()
    first.wait_for("leads")
    second = member()
    second.wait_for("up")
    CLOCK.sleep(3)  # time enough to be pushed out, if a newcomer did that
    assert (first.words, second.words) == (["up", "leads"], ["up"])
    first.process.kill()
    killed = CLOCK.monotonic()
    second.wait_for("leads")
    assert CLOCK.monotonic() - killed < 30  # 9 s on an idle machine


@pytest.mark.usefixtures("topics")
def test_one_that_was_frozen_is_replaced_and_ends_when_it_wakes_up(member: Callable[[], Member]) -> None:
    first = member()
    first.wait_for("leads")
    second = member()
    first.process.send_signal(signal.SIGSTOP)
    second.wait_for("leads")
    first.process.send_signal(signal.SIGCONT)
    assert first.process.wait(60) == 3
    assert first.words[-2:] == ["lost", "fenced"]
    assert first.words.count("leads") == 1


@contextmanager
def seat(kafka: Broker, prefix: str) -> Iterator[tuple[Leadership, StopSignal, Health, Metrics]]:
    settings = KafkaSettings(kafka_bootstrap_servers=kafka.bootstrap, topic_prefix=prefix)
    metrics = Metrics(CollectorRegistry())
    leadership = Leadership(settings, "rehearsal", metrics)
    try:
        yield leadership, StopSignal(), Health(CLOCK), metrics
    finally:
        leadership.close()


@pytest.mark.usefixtures("topics")
def test_a_standby_is_ready_says_so_and_is_next_when_the_leader_leaves(kafka: Broker, prefix: str) -> None:
    with ExitStack() as while_it_leads:
        leader, _, leader_health, leader_metrics = while_it_leads.enter_context(seat(kafka, prefix))
        assert leader.wait(StopSignal(), leader_health)
        assert (leader.held, shown(leader_metrics)) == (True, 1)
        assert not leader_health.ready, "whoever leads says itself when it is ready"
        with seat(kafka, prefix) as (standby, stop, health, metrics):
            turns: list[bool] = []

            def meanwhile() -> None:
                leader.check()
                turns.append(health.ready)
                if len(turns) == 3:
                    stop.set()

            assert not standby.wait(stop, health, meanwhile), "it was told to stop"
            assert turns == [True] * 3
            assert (standby.held, shown(metrics), shown(leader_metrics)) == (False, 0, 1)
            with pytest.raises(LeadershipLost):
                standby.check()
            while_it_leads.close()
            left = CLOCK.monotonic()
            assert standby.wait(StopSignal(), health)
            assert CLOCK.monotonic() - left < 5  # at once; a session that has to time out takes 7 s
            standby.check()
            assert (standby.held, shown(metrics)) == (True, 1)


def shown(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("estarsync_leader", {"service": "rehearsal"})


def test_without_the_control_topic_it_says_what_to_do(kafka: Broker, prefix: str) -> None:
    with (
        seat(kafka, prefix) as (leadership, stop, health, _),
        pytest.raises(ConfigurationError, match="estarsync topics apply"),
    ):
        leadership.wait(stop, health)
