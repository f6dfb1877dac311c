"""Leaves a cluster that is somebody's own as it was: what a run has made there goes again."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from estarsync_core.clock import Clock

_CALL_SECONDS = 15.0
_PAUSE = 0.5
# A killed process's member stays in its group until its session times out: 8 s (kafka/config.py), and some for a busy machine.
_PATIENCE = 60.0
_GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_ID_NOT_FOUND)


def remove(bootstrap: str, prefix: str, clock: Clock, *, groups: bool = True) -> list[str]:
    """Delete every topic and consumer group whose name begins with the prefix; blocks for a minute at most.

    A group that still has members, and a broker too busy to answer, are asked again until the minute is over.

    Args:
        bootstrap: of the cluster.
        prefix: of the names; it may not be empty.
        clock: the time.
        groups: whether groups are deleted too.

    Returns:
        What is left, each with the reason, in words; empty as a rule.

    Raises:
        ValueError: the prefix is empty, so everybody's topics would go.
    """
    if not prefix:
        raise ValueError("a prefix is needed: without one, everything on the cluster would be deleted")
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    deadline = clock.monotonic() + _PATIENCE
    while True:
        left = _attempt(lambda: _remove_topics(admin, prefix))
        if groups:
            left += _attempt(lambda: _remove_groups(admin, prefix))
        if not left or clock.monotonic() >= deadline:
            return left
        clock.sleep(_PAUSE)


def _remove_topics(admin: AdminClient, prefix: str) -> list[str]:
    names = [name for name in admin.list_topics(timeout=_CALL_SECONDS).topics if name.startswith(prefix)]
    return _left("topic", admin.delete_topics(names, request_timeout=_CALL_SECONDS) if names else {})


def _remove_groups(admin: AdminClient, prefix: str) -> list[str]:
    known = admin.list_consumer_groups(request_timeout=_CALL_SECONDS).result().valid
    names = [group.group_id for group in known if group.group_id.startswith(prefix)]
    return _left("group", admin.delete_consumer_groups(names, request_timeout=_CALL_SECONDS) if names else {})


def _left(kind: str, waiting: Mapping[str, Future[Any]]) -> list[str]:
    left = []
    for name, future in waiting.items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() not in _GONE:
                left.append(f"{kind} {name}: {error.args[0].str()}")
    return left


def _attempt(step: Callable[[], list[str]]) -> list[str]:
    try:
        return step()
    except KafkaException as error:
        return [f"the broker: {error.args[0].str()}"]
