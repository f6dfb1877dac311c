"""What the services say of themselves, as progress for people."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import httpx
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from estarsync_core.clock import Clock

_TIMEOUT = 2.0
_PLAIN_SECONDS = 3.0

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(http: httpx.Client, url: str) -> Samples:
    """A service's metrics by name and labels; empty while it does not answer."""
    try:
        text = http.get(f"{url}/metrics", timeout=_TIMEOUT).text
    except httpx.HTTPError:
        return {}
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of a metric's samples that carry these labels."""
    wanted = set(labels.items())
    return sum(value for (found, have), value in samples.items() if found == name and wanted <= set(have))


@dataclass(slots=True)
class Step:
    """One line of progress."""

    name: str
    done: int
    of: int


@dataclass(slots=True)
class Display:
    """Live bars at a terminal; elsewhere a plain line now and then."""

    clock: Clock
    console: Console
    _progress: Progress | None = None
    _tasks: dict[str, TaskID] = field(default_factory=dict)
    _next_line: float = 0.0
    _last_line: str = ""

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description:>22}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self._progress = Progress(*columns, console=self.console)
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last state on the screen."""
        if self._progress is not None:
            self._progress.stop()

    def show(self, steps: list[Step]) -> None:
        """Draw the present state."""
        if self._progress is not None:
            for step in steps:
                if step.name not in self._tasks:
                    self._tasks[step.name] = self._progress.add_task(step.name, total=step.of)
                self._progress.update(
                    self._tasks[step.name], completed=min(step.done, step.of), total=step.of
                )
            return
        line = " · ".join(f"{step.name} {step.done:,}/{step.of:,}" for step in steps)
        if self.clock.monotonic() >= self._next_line and line != self._last_line:
            self.say(line)
            self._next_line = self.clock.monotonic() + _PLAIN_SECONDS
            self._last_line = line

    def say(self, line: str) -> None:
        """A line for people, above the bars."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
        sys.stdout.flush()
