"""A real Kafka that wants TLS and a password: what the settings say reaches it, and nothing else does."""

import base64
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from estarsync_core.errors import ConfigurationError
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.config import connection_config, producer_config
from estarsync_runtime.kafka.producer import TransactionalProducer
from estarsync_runtime.kafka.reach import require_kafka
from estarsync_runtime.settings import KafkaSettings
from sandbox import processes
from sandbox.kafka import jars, node
from sandbox.kafka.ping import wait_until_up

pytestmark = [pytest.mark.kafka, pytest.mark.long]
CLOCK = SystemClock()


def certificates(folder: Path) -> None:
    """An authority, and a broker's certificate and key that it has signed, in the form that Kafka reads."""
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-keyout", "key.pem"]
    subprocess.run([*command, "-out", "ca.pem", *subject], cwd=folder, check=True, capture_output=True)
    pkcs8 = ["openssl", "pkcs8", "-topk8", "-nocrypt", "-in", "key.pem", "-out", "key8.pem"]
    subprocess.run(pkcs8, cwd=folder, check=True, capture_output=True)
    (folder / "broker.pem").write_text((folder / "key8.pem").read_text() + (folder / "ca.pem").read_text())


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a listener that wants TLS and a password, and the authority to trust."""
    java = jars.java_command(os.environ)
    found = jars.cached_jars(os.environ)
    if java is None or shutil.which("openssl") is None or not found.is_dir():
        pytest.skip("this needs a Kafka of our own: a JDK, Kafka's jars (`sandbox kafka fetch`) and openssl")
    folder = tmp_path_factory.mktemp("tls")
    certificates(folder)
    plain, secure, controller = (f"127.0.0.1:{processes.free_port()}" for _ in range(3))
    login = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_app="let-me-in";'
    settings = {
        **node.SETTINGS,
        "controller.quorum.voters": f"1@{controller}",
        "listeners": f"PLAINTEXT://{plain},SASL_SSL://{secure},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{plain},SASL_SSL://{secure}",
        "log.dirs": str(folder / "data"),
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "broker.pem"),
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": login,
    }
    properties = folder / "node.properties"
    properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    command = [java, "-Xmx512m", "-cp", f"{found}/*"]
    cluster = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).rstrip(b"=").decode()
    node._format(command, cluster, properties, folder)
    process = processes.start("kafka", [*command, "kafka.Kafka", str(properties)], os.environ, folder / "log")
    try:
        assert wait_until_up(plain, 60, CLOCK, process.alive), process.tail()
        yield secure, folder / "ca.pem"
    finally:
        processes.stop(process, 10)


def settings(address: str, **more: object) -> KafkaSettings:
    return KafkaSettings.model_validate({"kafka_bootstrap_servers": address, **more})


LOGIN = {"kafka_sasl_mechanism": "PLAIN", "kafka_username": "app", "kafka_password": SecretStr("let-me-in")}


def test_with_certificate_and_password_transactions_work(guarded):
    address, authority = guarded
    ours = settings(address, kafka_tls=True, kafka_tls_ca=authority, **LOGIN)
    require_kafka(ours)
    assert connection_config(ours)["security.protocol"] == "SASL_SSL"
    TransactionalProducer(producer_config(ours, f"t-{uuid.uuid4().hex[:8]}"), CLOCK)


def test_a_wrong_password_does_not_get_in(guarded):
    address, authority = guarded
    wrong = {**LOGIN, "kafka_password": SecretStr("guess")}
    with pytest.raises(ConfigurationError, match="KAFKA_SASL_MECHANISM"):
        require_kafka(settings(address, kafka_tls=True, kafka_tls_ca=authority, **wrong))


def test_a_broker_that_nobody_vouches_for_is_not_trusted(guarded):
    address, _ = guarded
    with pytest.raises(ConfigurationError):
        require_kafka(settings(address, kafka_tls=True, **LOGIN))


def test_without_tls_nothing_is_said_to_it(guarded):
    address, _ = guarded
    with pytest.raises(ConfigurationError):
        require_kafka(settings(address, **LOGIN))
