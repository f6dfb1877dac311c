"""How a run is measured: worker processes from outside, between two looks at their output."""

import math
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
_WARM_MOST = 10_000
_EARLY = 0.25  # of the records: from here on memory should not grow
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one contestant.

    Attributes:
        cpu: CPU seconds (user and system, all threads) for 100,000 records.
        rate: records a second.
        rss: the processes' peak, MiB; of several the highest.
        growth: how much more memory it had at the end than after a quarter, MiB.
    """

    cpu: float
    rate: float
    rss: float
    growth: float


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


def measure(
    processes: Sequence[subprocess.Popen[bytes]],
    records: int,
    progress: Callable[[], int],
    clock: Clock,
    enough: float = math.inf,
) -> Run:
    """Watch workers until they have finished so many records, or for `enough` seconds; blocks.

    Raises:
        TimeoutError: they don't begin or don't go on, or one ends before.
    """
    pids = [process.pid for process in processes]
    deadline = clock.monotonic() + _LIMIT_SECONDS
    warm = min(records * _WARM, _WARM_MOST)
    first: tuple[int, float, float] | None = None
    early: float | None = None
    while True:
        for process in processes:
            if process.poll() is not None:
                raise TimeoutError(f"the worker ended with code {process.returncode}")
        done = progress()
        now, cpu = clock.monotonic(), sum(map(cpu_seconds, pids))
        if first is None and done > warm:
            first = done, now, cpu
        if early is None and done > records * _EARLY:
            early = sum(_mib(pid, "VmRSS") for pid in pids)
        if first is not None and (done >= records or now - first[1] > enough):
            break
        if now > deadline:
            raise TimeoutError(f"{done} of {records} records after {_LIMIT_SECONDS:g} s")
        clock.sleep(_LOOK_SECONDS)
    counted, seconds = done - first[0], now - first[1]
    if counted <= 0 or seconds <= 0:
        raise TimeoutError("too few records to measure: give more")
    late = sum(_mib(pid, "VmRSS") for pid in pids)
    return Run(
        (cpu - first[2]) / counted * 100_000,
        counted / seconds,
        max(map(peak_mib, pids)),
        late - (late if early is None else early),
    )


def median(values: Sequence[float]) -> float:
    """The middle one, or the mean of the two."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a part of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_mib(pid: int) -> float:
    """The peak of a process's resident memory so far."""
    return _mib(pid, "VmHWM")


def resident_mib(pid: int) -> float:
    """A process's resident memory now."""
    return _mib(pid, "VmRSS")


def _mib(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
