"""Claim: `kill -9` of any one service in the middle still ends in full agreement."""

import os
import re
import signal

import pytest

from estarsync_runtime.clock import SystemClock

pytestmark = pytest.mark.e2e
CLOCK = SystemClock()


def long(service):
    return pytest.param(service, marks=pytest.mark.long)


@pytest.mark.parametrize("service", [long("extractor"), long("transformer"), "loader"])
def test_a_killed_service_loses_nothing(demo, on_kafka, service):
    run = demo("--size", "300", **on_kafka)
    deadline = CLOCK.monotonic() + 60
    while not re.search(r"contacts [1-9][\d,]*/", run.output):
        assert CLOCK.monotonic() < deadline, run.output
        assert run.process.poll() is None, run.output
        CLOCK.sleep(0.05)
    pid = int(re.findall(rf"{service} runs as process (\d+)", run.output)[0])
    os.kill(pid, signal.SIGKILL)
    assert run.wait(240) == 0, run.output
    report = run.report()
    assert report["restarts"] >= 1
    assert report["in_agreement"] is True
