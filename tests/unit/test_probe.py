"""The probe that container engines run inside."""

import os
import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry

from estarsync_runtime.health import Health, serve
from estarsync_runtime.probe import answers
from estarsync_runtime.testing import FakeClock
from sandbox.processes import free_port


@pytest.fixture
def health():
    return Health(FakeClock())


@pytest.fixture
def port(health):
    found = free_port()
    close = serve(found, health, CollectorRegistry(), host="127.0.0.1")
    yield found
    close()


def test_it_says_what_the_service_says(health, port):
    assert answers(port)
    assert not answers(port, "readyz")
    health.ready = True
    assert answers(port, "readyz")


def test_nobody_there_is_a_no():
    assert not answers(free_port())


@pytest.mark.parametrize(("port", "code"), [("", 2), ("1", 1)])
def test_its_exit_code_is_its_answer(port, code):
    command = [sys.executable, "-m", "estarsync_runtime.probe"]
    environment = {**os.environ, "HTTP_PORT": port}
    assert subprocess.run(command, env=environment, check=False, capture_output=True).returncode == code
