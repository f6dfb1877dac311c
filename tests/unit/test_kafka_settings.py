"""Kafka's security settings: whole, or refused with words."""

import pytest

from estarsync_core.errors import ConfigurationError
from estarsync_runtime.kafka.config import client_config, connection_config
from estarsync_runtime.settings import KafkaSettings, load

SERVERS = {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9093"}
LOGIN = {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-512", "KAFKA_USERNAME": "loader", "KAFKA_PASSWORD": "p"}


@pytest.fixture
def given(monkeypatch):
    def give(**variables: str) -> KafkaSettings:
        for name, value in {**SERVERS, **variables}.items():
            monkeypatch.setenv(name, value)
        return load(KafkaSettings)

    return give


@pytest.mark.parametrize(
    ("variables", "protocol"),
    [
        ({}, None),
        ({"KAFKA_TLS": "true"}, "SSL"),
        (LOGIN, "SASL_PLAINTEXT"),
        ({**LOGIN, "KAFKA_TLS": "true"}, "SASL_SSL"),
    ],
)
def test_the_protocol_follows(given, variables, protocol):
    assert connection_config(given(**variables)).get("security.protocol") == protocol


def test_everything_reaches_librdkafka(given, tmp_path):
    files = {name: tmp_path / name for name in ("CA", "CERTIFICATE", "KEY")}
    for path in files.values():
        path.touch()
    paths = {f"KAFKA_TLS_{name}": str(path) for name, path in files.items()}
    config = client_config(given(**LOGIN, **paths, KAFKA_TLS="true"))
    assert config["ssl.ca.location"] == str(files["CA"])
    assert config["ssl.certificate.location"] == str(files["CERTIFICATE"])
    assert config["ssl.key.location"] == str(files["KEY"])
    assert (config["sasl.mechanism"], config["sasl.username"], config["sasl.password"]) == (
        "SCRAM-SHA-512",
        "loader",
        "p",
    )


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({"KAFKA_TLS_CA": "/etc/hosts"}, "KAFKA_TLS=true"),
        ({"KAFKA_TLS": "true", "KAFKA_TLS_KEY": "/etc/hosts"}, "go together"),
        ({"KAFKA_USERNAME": "loader"}, "go together"),
        ({"KAFKA_TLS": "true", "KAFKA_TLS_CA": "/nowhere.pem"}, "no file /nowhere.pem"),
        ({**LOGIN, "KAFKA_SASL_MECHANISM": "GSSAPI"}, "KAFKA_SASL_MECHANISM"),
    ],
)
def test_half_of_it_is_refused(given, variables, word):
    with pytest.raises(ConfigurationError, match=word):
        given(**variables)


def test_a_password_is_not_printed(given):
    assert "hush" not in repr(given(**{**LOGIN, "KAFKA_PASSWORD": "hush"}))
