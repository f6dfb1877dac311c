"""The declared topics on a cluster: create them, or say which are missing."""

from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic  # type: ignore[attr-defined]  # documented

from estarsync_core.clock import Clock
from estarsync_core.errors import ConfigurationError
from estarsync_core.topics import TopicSpec
from estarsync_runtime.clock import SystemClock

_DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,  # noqa: SLF001 - librdkafka's own codes are public in spite of the name
}
# Where it differs, records are lost (delete instead of compact) or erasures never happen.
_MUST_AGREE = "cleanup.policy"
_REMEDY = "move its records to a new topic, or give another TOPIC_PREFIX"
_CLOCK = SystemClock()


def apply_topics(
    admin_config: dict[str, Any],
    specs: Sequence[TopicSpec],
    prefix: str,
    replication: int,
    timeout: float,
    *,
    clock: Clock = _CLOCK,
) -> list[str]:
    """Create the topics that are missing, and wait until clients see them; what exists stays as it is.

    Blocks for at most about three times `timeout`. Doing it again, or in two processes at once, does no harm.

    Args:
        admin_config: librdkafka's.
        specs: what should be there.
        prefix: goes before each name.
        replication: copies of each partition.
        timeout: seconds for each step.
        clock: for the wait between two looks.

    Returns:
        The full names of the topics that were created.

    Raises:
        ConfigurationError: no broker answers, it refuses, or a topic exists with other partitions or another
            clean-up policy than declared; one line per problem, and then nothing is created.
    """
    admin = AdminClient(admin_config)
    wanted = {f"{prefix}{spec.name}": spec for spec in specs}
    partitions = _partitions(admin, admin_config, timeout)
    present = {name: spec for name, spec in wanted.items() if name in partitions}
    problems = [
        f"{name} has {partitions[name]} partitions, {spec.partitions} are declared: {_REMEDY}"
        for name, spec in present.items()
        if partitions[name] != spec.partitions
    ]
    problems += _wrong_policies(admin, present, timeout)
    if problems:
        raise ConfigurationError(problems)
    missing = {name: spec for name, spec in wanted.items() if name not in partitions}
    if not missing:
        return []
    created = _create(admin, missing, replication, timeout)
    deadline = clock.monotonic() + timeout
    while not missing.keys() <= _partitions(admin, admin_config, timeout).keys():
        if clock.monotonic() > deadline:
            raise ConfigurationError(
                [f"Kafka created topics but doesn't show them after {timeout:g} s: is the cluster healthy?"]
            )
        clock.sleep(0.02)
    return created


def missing_topics(
    admin_config: dict[str, Any], specs: Sequence[TopicSpec], prefix: str, timeout: float
) -> list[str]:
    """The full names of the topics that aren't there; blocks for at most `timeout` seconds.

    Raises:
        ConfigurationError: no broker answers, or it refuses.
    """
    present = _partitions(AdminClient(admin_config), admin_config, timeout)
    return [name for name in (f"{prefix}{spec.name}" for spec in specs) if name not in present]


def _partitions(admin: AdminClient, admin_config: dict[str, Any], timeout: float) -> dict[str, int]:
    servers = admin_config.get("bootstrap.servers")
    try:
        topics = admin.list_topics(timeout=timeout).topics
    except KafkaException as error:
        raise ConfigurationError([_meaning(error, f"the topics of {servers} can't be listed")]) from error
    return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None}


def _wrong_policies(admin: AdminClient, present: dict[str, TopicSpec], timeout: float) -> list[str]:
    if not present:
        return []
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in present]
    problems = []
    for resource, future in admin.describe_configs(resources, request_timeout=timeout).items():
        declared = present[resource.name].config.get(_MUST_AGREE, "delete")
        try:
            actual = future.result()[_MUST_AGREE].value
        except KafkaException as error:
            problems.append(_meaning(error, f"the settings of {resource.name} can't be read"))
        else:
            if actual != declared:
                problems.append(
                    f"{resource.name} has {_MUST_AGREE}={actual}, {declared} is declared: {_REMEDY}"
                )
    return problems


def _create(admin: AdminClient, missing: dict[str, TopicSpec], replication: int, timeout: float) -> list[str]:
    topics = [
        NewTopic(name, spec.partitions, replication, config={k: str(v) for k, v in spec.config.items()})
        for name, spec in missing.items()
    ]
    created, problems = [], []
    futures = admin.create_topics(topics, operation_timeout=timeout, request_timeout=timeout)
    for name, future in futures.items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # that: another process was faster
                problems.append(_meaning(error, f"{name} can't be created"))
    if problems:
        raise ConfigurationError(problems)
    return created


def _meaning(failure: KafkaException, what: str) -> str:
    error: KafkaError = failure.args[0]
    if error.code() in _DENIED:
        return (
            f"{what}: Kafka refuses ({error.name()}): give this user the right, or let an administrator do it"
        )
    if error.retriable() or error.code() in {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}:  # noqa: SLF001 - as above
        return f"{what}: no broker answers ({error.name()}): check KAFKA_BOOTSTRAP_SERVERS and that it runs"
    return f"{what}: {error.str()} ({error.name()})"
