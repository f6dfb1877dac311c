"""How a run is measured: a worker process from outside, between two looks at its output."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from estarsync_core.clock import Clock

_LOOK_SECONDS = 0.1
_LIMIT_SECONDS = 600.0
_WARM = 0.1  # of the records: imports, joining the group and the first batches are not counted
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one contestant.

    Attributes:
        cpu: CPU seconds (user and system, all threads) for 100,000 records.
        rate: records a second.
        rss: the process's peak, MiB.
    """

    cpu: float
    rate: float
    rss: float


@contextmanager
def worker(
    module: str, env: Mapping[str, str], python: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process as long as the block runs, by our own Python or another."""
    command = [str(python or sys.executable), "-m", module]
    with subprocess.Popen(command, env={**os.environ, **env}) as process:  # noqa: S603 - our own modules
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def measure(process: subprocess.Popen[bytes], records: int, progress: Callable[[], int], clock: Clock) -> Run:
    """Watch a worker until it has finished so many records; blocks.

    Raises:
        TimeoutError: it doesn't, or it ends before.
    """
    pid = process.pid
    deadline = clock.monotonic() + _LIMIT_SECONDS
    first: tuple[int, float, float] | None = None
    while True:
        if process.poll() is not None:
            raise TimeoutError(f"the worker ended with code {process.returncode}")
        done = progress()
        now, cpu = clock.monotonic(), cpu_seconds(pid)
        if first is None and done > records * _WARM:
            first = done, now, cpu
        if first is not None and done >= records:
            break
        if now > deadline:
            raise TimeoutError(f"{done} of {records} records after {_LIMIT_SECONDS:g} s")
        clock.sleep(_LOOK_SECONDS)
    counted, seconds = records - first[0], now - first[1]
    if counted <= 0 or seconds <= 0:
        raise TimeoutError("too few records to measure: give more")
    return Run((cpu - first[2]) / counted * 100_000, counted / seconds, peak_mib(pid))


def median(values: Sequence[float]) -> float:
    """The middle one, or the mean of the two."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_mib(pid: int) -> float:
    """The peak of a process's resident memory so far."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
