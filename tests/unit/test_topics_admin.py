"""Creating the declared topics, without a broker; with one: tests/integration/test_broker.py."""

import pytest

from estarsync_core.errors import ConfigurationError
from estarsync_core.topics import declared_topics
from estarsync_runtime.kafka.admin import apply_topics, missing_topics

NOBODY = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}


def test_a_broker_that_does_not_answer_is_one_clear_line() -> None:
    with pytest.raises(ConfigurationError) as applying:
        apply_topics(NOBODY, declared_topics(), "", 1, 0.1)
    with pytest.raises(ConfigurationError) as looking:
        missing_topics(NOBODY, declared_topics(), "", 0.1)
    assert applying.value.problems == looking.value.problems
    (problem,) = applying.value.problems
    assert problem.startswith("the topics of 127.0.0.1:1 can't be listed: no broker answers")
    assert "KAFKA_BOOTSTRAP_SERVERS" in problem
