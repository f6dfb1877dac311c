"""Claim: however the demo ends, what it started ends with it."""

import os
import re
import signal

import pytest

from estarsync_runtime.clock import SystemClock

pytestmark = pytest.mark.e2e
CLOCK = SystemClock()


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_nothing_is_left(demo, on_kafka, number, code):
    run = demo("--size", "300", **on_kafka)
    deadline = CLOCK.monotonic() + 60
    while "loader runs" not in run.output:
        assert CLOCK.monotonic() < deadline, run.output
        CLOCK.sleep(0.05)
    pids = [int(pid) for pid in re.findall(r"runs as process (\d+)", run.output)]
    run.process.send_signal(number)
    assert run.wait(60) == code, run.output
    while any(running(pid) for pid in pids):
        assert CLOCK.monotonic() < deadline, f"still running: {pids}"
        CLOCK.sleep(0.05)
