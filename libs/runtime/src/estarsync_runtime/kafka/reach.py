"""Is there a Kafka at all? Asked once, before anything else is started."""

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from estarsync_core.errors import ConfigurationError
from estarsync_runtime.kafka.config import connection_config
from estarsync_runtime.settings import KafkaSettings

_SECONDS = 10.0


def require_kafka(settings: KafkaSettings) -> None:
    """Return once a broker answers; blocks for at most ten seconds.

    Raises:
        ConfigurationError: none does.
    """
    # librdkafka would log every failed attempt; one line is enough.
    client = AdminClient({**connection_config(settings), "log_level": 0})
    try:
        client.list_topics(timeout=_SECONDS)
    except KafkaException as error:
        where = f"KAFKA_BOOTSTRAP_SERVERS={settings.kafka_bootstrap_servers}"
        problem = f"no broker answers at {where} within {_SECONDS:.0f} s: check the address, that it runs, and KAFKA_TLS and KAFKA_SASL_MECHANISM"
        raise ConfigurationError([problem]) from error
