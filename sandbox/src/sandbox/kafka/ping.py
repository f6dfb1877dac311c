"""Does a broker answer?"""

import socket
from collections.abc import Callable

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from estarsync_core.clock import Clock


def answers(bootstrap: str, seconds: float) -> bool:
    """Whether a broker answers within so many seconds; blocks for at most as long."""
    # Level 0: while we ask whether somebody is there, "connection refused" is an answer and no news.
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        return bool(admin.list_topics(timeout=seconds).brokers)
    except KafkaException:
        return False


def wait_until_up(bootstrap: str, seconds: float, clock: Clock, alive: Callable[[], bool]) -> bool:
    """Block until a broker answers; False when it is no longer alive, or the time is over."""
    deadline = clock.monotonic() + seconds
    while alive() and clock.monotonic() < deadline:
        if _accepts(bootstrap) and answers(bootstrap, 1.0):
            return True
        clock.sleep(0.05)
    return False


def _accepts(bootstrap: str) -> bool:
    """Whether something listens there: known at once, where a Kafka client keeps trying."""
    host, _, port = bootstrap.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1.0):
            return True
    except OSError:
        return False
