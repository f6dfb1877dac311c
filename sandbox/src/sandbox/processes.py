"""Processes that end with the one that started them, and a supervisor that starts them again."""

import atexit
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from estarsync_core.clock import Clock

T = TypeVar("T")

_TETHER = Path(__file__).with_name("tether.py")
_EXIT_CONFIGURATION = 2


@dataclass(frozen=True, slots=True)
class Process:
    """A running or ended process; what it prints is in `log_file`."""

    name: str
    log_file: Path
    popen: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, minus the signal that ended it, or None while it runs."""
        return self.popen.poll()

    def alive(self) -> bool:
        """Whether it runs."""
        return self.returncode is None

    def wait(self, seconds: float) -> int | None:
        """Block until it ends, at most so many seconds; its exit code, or None where it still runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.popen.wait(seconds)
        return None

    def tail(self, lines: int = 10) -> str:
        """The last lines of its log."""
        text = self.log_file.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])


class _Spawner:
    """Starts every process from one thread that never ends.

    Linux counts the *thread* that started a process as its parent: a process that a short-lived thread
    started would be killed with that thread.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def run(self, job: Callable[[], T]) -> T:
        """Run the job there, and hand back what it returns or raises."""
        future: Future[T] = Future()

        def step() -> None:
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - it belongs to the caller, who gets it from the future
                future.set_exception(error)

        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # not alive: this is a forked child
                self._thread = threading.Thread(target=self._loop, name="spawner", daemon=True)
                self._thread.start()
        self._jobs.put(step)
        return future.result()

    def _loop(self) -> None:
        while True:
            self._jobs.get()()


_spawner = _Spawner()


def start(name: str, argv: Sequence[str], env: Mapping[str, str], log_file: Path) -> Process:
    """Start a command in the background, tied to this process.

    However this process ends, even by `kill -9`, the command ends too. It doesn't see the terminal's Ctrl-C:
    who started it decides when it stops.

    Args:
        name: for people.
        argv: the command; a command that can't be run shows as exit code 127.
        env: its whole environment.
        log_file: takes what it prints, added at the end.
    """
    # Other systems than Linux have no such signal; there the command outlives a `kill -9` of its owner.
    tied = sys.platform == "linux"
    tether = [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid())] if tied else []
    with log_file.open("ab") as log:
        popen = _spawner.run(
            lambda: subprocess.Popen(  # noqa: S603 - the command comes from our own code
                [*tether, *argv],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )
    process = Process(name, log_file, popen)
    if not tied:
        atexit.register(stop, process, 0)
    return process


def stop(process: Process, grace: float) -> int:
    """Ask the process to end (SIGTERM), kill it after `grace` seconds, and return its exit code; blocks."""
    process.popen.terminate()
    code = process.wait(grace)
    if code is None:
        process.popen.kill()
        code = process.popen.wait()
    return code


def stop_all(processes: Sequence[Process], grace: float, clock: Clock) -> None:
    """Stop several processes at once; all together have `grace` seconds."""
    deadline = clock.monotonic() + grace
    for process in processes:
        process.popen.terminate()
    for process in processes:
        stop(process, max(0.0, deadline - clock.monotonic()))


def free_port() -> int:
    """A TCP port that nothing listens on at 127.0.0.1; another process may take it at any time."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class _Service:
    start: Callable[[], Process]
    process: Process
    started: float
    quick_ends: int = 0
    restart_at: float | None = None


class Supervisor:
    """Starts services again when they die; look after them by calling `check` every second or so.

    A service that ends with exit code 2 (wrong configuration), or too often within seconds of its start, is
    given up: `given_up` holds the reason by name.

    Args:
        clock: for the pauses between restarts.
        notice: called with a line for people about every death and restart.
        starter: as `start`.
        always: never give one up, as a cluster doesn't.
    """

    QUICK = 10.0  # seconds; a service that lived longer than this was up
    LIMIT = 5  # deaths in a row within QUICK

    def __init__(
        self,
        clock: Clock,
        notice: Callable[[str], None],
        starter: Callable[..., Process] = start,
        *,
        always: bool = False,
    ) -> None:
        self.given_up: dict[str, str] = {}
        self._clock = clock
        self._notice = notice
        self._starter = starter
        self._always = always
        self._services: dict[str, _Service] = {}

    def add(self, name: str, argv: Sequence[str], env: Mapping[str, str], log_file: Path) -> Process:
        """Start a service under supervision; the arguments are those of `start`."""

        def begin() -> Process:
            return self._starter(name, argv, env, log_file)

        process = begin()
        self._services[name] = _Service(begin, process, self._clock.monotonic())
        return process

    def process(self, name: str) -> Process:
        """The service's present process; a restart brings another one."""
        return self._services[name].process

    def has(self, name: str) -> bool:
        """Whether there is such a service."""
        return name in self._services

    def remove(self, name: str) -> Process:
        """Look after a service no longer; it goes on running."""
        return self._services.pop(name).process

    def check(self) -> None:
        """Restart what has died and is due; doesn't block."""
        for name, service in self._services.items():
            if name in self.given_up:
                continue
            if service.restart_at is not None:
                self._restart_if_due(service)
            elif (code := service.process.returncode) is not None:
                self._bury(name, service, code)

    def stop(self, grace: float) -> None:
        """Stop every service; all together have `grace` seconds before they are killed."""
        stop_all([service.process for service in self._services.values()], grace, self._clock)

    def _restart_if_due(self, service: _Service) -> None:
        now = self._clock.monotonic()
        if service.restart_at is not None and now >= service.restart_at:
            service.process, service.started, service.restart_at = service.start(), now, None

    def _bury(self, name: str, service: _Service, code: int) -> None:
        now = self._clock.monotonic()
        service.quick_ends = service.quick_ends + 1 if now - service.started < self.QUICK else 1
        log = f"see {service.process.log_file}"
        if code == _EXIT_CONFIGURATION and not self._always:
            self._give_up(name, f"its configuration is wrong (exit code {code}); {log}")
        elif service.quick_ends > self.LIMIT and not self._always:
            self._give_up(name, f"it {_ended(code)}, as {self.LIMIT} times before within seconds; {log}")
        else:
            pause = min(0.25 * 2 ** min(service.quick_ends, 5), 8.0)
            service.restart_at = now + pause
            self._notice(f"{name} {_ended(code)}; it starts again in {pause:g} s ({log})")

    def _give_up(self, name: str, reason: str) -> None:
        self.given_up[name] = reason
        self._notice(f"{name} is not started again: {reason}")


def _ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
