"""Processes that end with their owner, and the supervisor."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typing_extensions import override

from estarsync_core.clock import Clock
from estarsync_runtime.clock import SystemClock
from sandbox import processes
from sandbox.processes import Process, Supervisor

FOREVER = [sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"]
DEAF = [
    *FOREVER[:-1],
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()",
]

OWNER = """
import os, sys, threading
from pathlib import Path
from sandbox import processes

def begin():
    child = processes.start("child", sys.argv[2:], os.environ, Path(sys.argv[1]))
    print(child.pid, flush=True)

thread = threading.Thread(target=begin)  # the thread ends at once; the child must not
thread.start()
thread.join()
sys.stdin.read()
"""


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    clock = SystemClock()
    end = clock.monotonic() + seconds
    while not condition():
        if clock.monotonic() > end:
            return False
        clock.sleep(0.01)
    return True


Run = Callable[[list[str]], Process]
Supervised = Callable[..., tuple["Stage", Supervisor]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    started: list[Process] = []

    def begin(argv: list[str]) -> Process:
        started.append(processes.start("it", argv, os.environ, tmp_path / "log"))
        return started[-1]

    yield begin
    for process in started:
        processes.stop(process, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a process to its owner")
def test_a_child_dies_with_an_owner_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "log"), *DEAF],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as owner:
        assert owner.stdout is not None
        child = int(owner.stdout.readline())
        assert eventually(lambda: "up" in (tmp_path / "log").read_text())
        assert not gone(child)  # though the thread that asked for it is gone
        owner.send_signal(signal.SIGKILL)
    assert eventually(lambda: gone(child))


def test_the_pid_the_exit_code_and_the_output_are_the_commands_own(run: Run) -> None:
    process = run([sys.executable, "-I", "-S", "-c", "import os, sys; print(os.getpid()); sys.exit(7)"])
    assert process.wait(10) == 7
    assert process.tail() == str(process.pid)


def test_a_command_that_is_not_there_shows_as_127(run: Run) -> None:
    process = run(["no-such-command-anywhere"])
    assert process.wait(10) == 127
    assert "no-such-command-anywhere" in process.tail()


def test_stop_asks_first_and_kills_then(run: Run, tmp_path: Path) -> None:
    assert processes.stop(run(FOREVER), 10) == -signal.SIGTERM
    deaf = run(DEAF)
    assert eventually(lambda: "up" in (tmp_path / "log").read_text())
    assert processes.stop(deaf, 0.05) == -signal.SIGKILL
    assert processes.stop(deaf, 0) == -signal.SIGKILL  # again: no harm


def test_processes_may_be_started_from_many_threads(run: Run) -> None:
    with ThreadPoolExecutor(4) as pool:
        started = list(pool.map(run, [FOREVER] * 4))
    assert [process.wait(0.02) for process in started] == [None] * 4  # the threads are gone, they are not


def test_a_free_port_is_one_that_can_be_bound() -> None:
    assert 1024 <= processes.free_port() <= 65535


class HandClock(Clock):
    """Time that a test moves by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @override
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    @override
    def monotonic(self) -> float:
        return self.seconds

    @override
    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Stage:
    """Starts processes that end at once with the exit codes it was given, the last one for ever."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.clock = HandClock()
        self.notices: list[str] = []
        self.starts = 0

    def start(self, name: str, _argv: Sequence[str], env: Mapping[str, str], log_file: Path) -> Process:
        code = self.codes[min(self.starts, len(self.codes) - 1)]
        self.starts += 1
        argv = FOREVER if code == 0 else [sys.executable, "-I", "-S", "-c", f"raise SystemExit({code})"]
        process = processes.start(name, argv, env, log_file)
        if code != 0:
            assert process.wait(10) == code
        return process


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    supervisors: list[Supervisor] = []

    def begin(*codes: int) -> tuple[Stage, Supervisor]:
        stage = Stage(*codes)
        supervisor = Supervisor(stage.clock, stage.notices.append, stage.start)
        supervisors.append(supervisor)
        supervisor.add("loader", ["unused"], os.environ, tmp_path / "loader.log")
        return stage, supervisor

    yield begin
    for supervisor in supervisors:
        supervisor.stop(0)


def test_a_service_that_is_killed_is_started_again(supervised: Supervised) -> None:
    stage, supervisor = supervised(0)
    first = supervisor.process("loader")
    supervisor.check()
    assert stage.notices == []
    os.kill(first.pid, signal.SIGKILL)
    first.wait(10)
    supervisor.check()
    assert len(stage.notices) == 1
    assert "loader was ended by SIGKILL; it starts again in 0.5 s" in stage.notices[0]
    supervisor.check()
    assert stage.starts == 1  # not before the pause is over
    stage.clock.sleep(0.5)
    supervisor.check()
    assert supervisor.process("loader").pid != first.pid
    assert supervisor.process("loader").returncode is None


def test_a_wrong_configuration_is_not_tried_again(supervised: Supervised) -> None:
    stage, supervisor = supervised(2)
    supervisor.check()
    stage.clock.sleep(60)
    supervisor.check()
    assert stage.starts == 1
    assert "configuration" in supervisor.given_up["loader"]
    assert "loader.log" in stage.notices[0]


def test_a_service_that_fails_at_once_again_and_again_is_given_up(supervised: Supervised) -> None:
    stage, supervisor = supervised(1)
    for _ in range(100):
        supervisor.check()
        stage.clock.sleep(1)
    assert stage.starts == 1 + Supervisor.LIMIT
    assert "exit code 1" in supervisor.given_up["loader"]


def test_a_service_that_was_up_in_between_is_started_again_for_ever(supervised: Supervised) -> None:
    stage, supervisor = supervised(3)
    for _ in range(10):
        stage.clock.sleep(Supervisor.QUICK)
        supervisor.check()
        stage.clock.sleep(0.5)
        supervisor.check()
    assert stage.starts == 11
    assert supervisor.given_up == {}
