"""Does a broker answer?"""

from collections.abc import Callable

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from estarsync_core.clock import Clock


def answers(bootstrap: str, seconds: float) -> bool:
    """Whether a broker answers within so many seconds; blocks for at most as long."""
    # Level 0: while we ask whether somebody is there, "connection refused" is an answer and no news.
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200})
    try:
        return bool(admin.list_topics(timeout=seconds).brokers)
    except KafkaException:
        return False


def wait_until_up(bootstrap: str, seconds: float, clock: Clock, alive: Callable[[], bool]) -> bool:
    """Block until a broker answers; False when it is no longer alive, or the time is over."""
    deadline = clock.monotonic() + seconds
    while alive() and clock.monotonic() < deadline:
        if answers(bootstrap, 0.5):
            return True
        clock.sleep(0.05)
    return False
