"""Settings, health and the way from a command line to a running service and out."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from estarsync_core.errors import ConfigurationError
from estarsync_runtime import health
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import ServiceSettings, load, read_profile
from estarsync_runtime.testing import FakeClock


@pytest.fixture
def environment(monkeypatch):
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "TOPIC_PREFIX", "SCHEMA_REGISTRY_URL", "HTTP_PORT", "LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


def test_every_wrong_variable_is_named_at_once(environment):
    environment("HTTP_PORT", "99999")
    environment("SCHEMA_REGISTRY_URL", "registry:8081")
    environment("LOG_LEVEL", "LOUD")
    with pytest.raises(ConfigurationError) as error:
        load(ServiceSettings)
    named = {problem.split(":")[0].split()[0] for problem in error.value.problems}
    assert named == {"KAFKA_BOOTSTRAP_SERVERS", "HTTP_PORT", "SCHEMA_REGISTRY_URL", "LOG_LEVEL"}


@pytest.mark.parametrize("servers", ["kafka", "kafka:port", ":9092", "a:1,,b:2"])
def test_servers_without_host_and_port_are_refused(environment, servers):
    environment("KAFKA_BOOTSTRAP_SERVERS", servers)
    with pytest.raises(ConfigurationError, match="KAFKA_BOOTSTRAP_SERVERS"):
        load(ServiceSettings)


def test_a_prefix_stands_before_every_topic(environment):
    environment("KAFKA_BOOTSTRAP_SERVERS", "a:1, b:2")
    environment("TOPIC_PREFIX", "acme.")
    assert load(ServiceSettings).topic("estar.orders.v1") == "acme.estar.orders.v1"


def test_a_profile_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigurationError, match="TENANT_PROFILE: cannot read"):
        read_profile(tmp_path / "none.yaml")


def test_an_environment_may_remove_voided_orders(environment, tmp_path):
    path = tmp_path / "profile.yaml"
    path.write_text("websites: {1: {currency: NZD, product_url: 'https://x/{id}', image_base: 'https://x'}}")
    environment("VOIDED_ORDERS", "")
    assert read_profile(path).orders.voided == "keep"
    environment("VOIDED_ORDERS", "remove")
    assert read_profile(path).orders.voided == "remove"
    environment("VOIDED_ORDERS", "hide")
    with pytest.raises(ConfigurationError, match="VOIDED_ORDERS: Input should be 'keep' or 'remove'"):
        read_profile(path)


def test_health_says_what_is_and_metrics_are_shown():
    clock = FakeClock()
    state = health.Health(clock, stall_after=10)
    metrics = Metrics(CollectorRegistry())
    metrics.position.labels("t", 0).set(7)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    close = health.serve(port, state, metrics.registry, "127.0.0.1")
    try:
        url = f"http://127.0.0.1:{port}"
        assert [httpx.get(f"{url}/{page}").status_code for page in ("livez", "readyz", "nothing")] == [
            200,
            503,
            404,
        ]
        state.ready = True
        clock.advance(11)
        assert [httpx.get(f"{url}/{page}").status_code for page in ("livez", "readyz")] == [503, 200]
        state.beat()
        assert httpx.get(f"{url}/livez").status_code == 200
        assert 'estarsync_position_offset{partition="0",topic="t"} 7.0' in httpx.get(f"{url}/metrics").text
        with pytest.raises(ConfigurationError, match=f"cannot listen on port {port}"):
            health.serve(port, state, metrics.registry, "127.0.0.1")
    finally:
        close()


SERVICE = """
from estarsync_core.errors import ConfigurationError, Fenced, Stop
from estarsync_runtime.lifecycle import run
from estarsync_runtime.settings import ServiceSettings

def body(settings, context):
    BODY

run("toy", ServiceSettings, body, require=lambda settings: None)
"""


def start(body: str) -> subprocess.Popen[str]:
    code = SERVICE.replace("BODY", textwrap.indent(textwrap.dedent(body), "    ").strip())
    environment = {"PATH": os.environ["PATH"], "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("pass", 0, ""),
        ("raise ConfigurationError(['one thing', 'another'])", 2, "toy: one thing\ntoy: another\n"),
        ("raise Fenced('another took over')", 3, "toy: another took over\n"),
        ("raise Stop('look here')", 1, "toy: stopped: look here\n"),
    ],
)
def test_a_service_ends_with_a_line_and_a_code(body, code, said):
    process = start(body)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (code, said)


def test_what_nobody_expected_is_logged_with_its_trace():
    process = start("raise ZeroDivisionError")
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "ZeroDivisionError" in stderr


def test_sigterm_ends_a_service_cleanly():
    process = start("print('up', flush=True); context.stop.wait(20)")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_importing_anything_opens_nothing():
    """Every module of the libraries and services can be imported without touching the network."""
    root = Path(__file__).parents[2]
    code = """
import importlib, pkgutil, sys
sys.addaudithook(lambda event, args: event == "socket.connect" and sys.exit(f"connects: {args[1]}"))
for name in ("estarsync_core", "estarsync_runtime", "extractor", "transformer", "loader", "estarsync_cli", "sandbox"):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        if not module.name.endswith(("__main__", "tether", "reaper")):
            importlib.import_module(module.name)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=root
    )
    assert done.returncode == 0, done.stderr
