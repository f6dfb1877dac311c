"""A call into Kafka that never comes back ends the process, and no other does."""

import subprocess
import sys
import threading

from estarsync_runtime.kafka.watchdog import Watchdog


def test_a_call_that_hangs_ends_the_process() -> None:
    ended = threading.Event()
    with Watchdog(ended.set).over("commit", 0.01):
        assert ended.wait(30)


def test_a_call_that_comes_back_does_not() -> None:
    ended = threading.Event()
    with Watchdog(ended.set).over("commit", 60):
        assert not ended.is_set()
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    for timer in timers:
        timer.join(30)  # they end as soon as they are cancelled
    assert not ended.is_set()


def test_the_process_really_ends() -> None:
    script = (
        "import threading; from estarsync_runtime.kafka.watchdog import Watchdog\n"
        "with Watchdog().over('commit', 0.01): threading.Event().wait()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert b"kafka_call_hangs" in done.stdout + done.stderr
