"""A question that Kafka can't answer just now is asked again, for a while."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from estarsync_core.errors import RetryLater
from estarsync_runtime.kafka.patience import patiently
from estarsync_runtime.testing import FakeClock


def test_it_is_asked_until_it_is_answered_or_time_is_up() -> None:
    clock, calls = FakeClock(), 0

    def third_time() -> int:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))
        return calls

    def never() -> int:
        raise KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))

    assert patiently(third_time, clock) == 3
    with pytest.raises(RetryLater):
        patiently(never, clock)
    assert clock.monotonic() > 15
