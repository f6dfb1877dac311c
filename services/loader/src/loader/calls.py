"""Calls that run beside the main loop, so that a slow answer holds up nothing else."""

from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol

from estarsync_runtime.dotdigital.client import Answer


class Job(Protocol):
    """What a call is for: a batch, or an errand."""

    @property
    def id(self) -> str:
        """Ours."""
        ...


class Calls(Protocol):
    """Runs calls and hands their answers back."""

    def start(self, job: Job, call: Callable[[], Answer]) -> None:
        """Run a job's call soon; doesn't block."""
        ...

    def answers(self) -> Iterator[tuple[Job, Answer]]:
        """The answers that have come; raises what a call raised."""
        ...


class ThreadedCalls:
    """Runs calls on a few threads. They don't keep the process from ending: an answer may take two minutes.

    Args:
        threads: how many calls may be open at once.
    """

    def __init__(self, threads: int) -> None:
        self._todo: SimpleQueue[tuple[Job, Callable[[], Answer]] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[Job, Answer | BaseException]] = SimpleQueue()
        self._threads = [
            Thread(target=self._work, name=f"dotdigital-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, job: Job, call: Callable[[], Answer]) -> None:
        """Run a job's call soon; doesn't block."""
        self._todo.put((job, call))

    def answers(self) -> Iterator[tuple[Job, Answer]]:
        """The answers that have come; raises what a call raised."""
        while True:
            try:
                job, answer = self._done.get_nowait()
            except Empty:
                return
            if isinstance(answer, BaseException):
                raise answer
            yield job, answer

    def close(self) -> None:
        """Let the threads end once they are idle; doesn't wait for them."""
        for _ in self._threads:
            self._todo.put(None)

    def _work(self) -> None:
        while (todo := self._todo.get()) is not None:
            job, call = todo
            try:
                self._done.put((job, call()))
            except BaseException as error:  # noqa: BLE001 - a thread's outermost edge: the main loop raises it
                self._done.put((job, error))
