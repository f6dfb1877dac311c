"""`sandbox chaos`."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from estarsync_core.errors import ConfigurationError, EstarsyncError
from estarsync_runtime.clock import SystemClock


def chaos(
    *,
    seeds: Annotated[str, typer.Option(help="Runs to play: 7, or 1-5, or 1,4,9.")] = "1-3",
    seconds: Annotated[float, typer.Option(help="How long things go wrong in each.", min=1)] = 60.0,
    customers: Annotated[int, typer.Option(help="Customers of the generated shops.", min=1)] = 60,
    report: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("chaos-report.json"),
    logs: Annotated[Path, typer.Option(help="Where the processes' logs go.")] = Path("chaos-logs"),
) -> None:
    """Kill, freeze and confuse everything by seed; in the end both sides must agree and every invariant hold.

    Exit code 0 only where they do; 2 where there is no real Kafka.
    """
    from sandbox.chaos.run import Chaos, Options  # noqa: PLC0415 - `sandbox --help` should not load Kafka

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    # A shell that starts us in the background has us ignore SIGINT.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupted)
    console = Console()

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    try:
        held = Chaos(Options(_numbers(seeds), seconds, customers, report, logs), SystemClock(), say).run()
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"chaos: {problem}", file=sys.stderr)  # noqa: T201 - for people
        raise typer.Exit(2) from None
    except EstarsyncError as error:
        print(f"chaos: {error}", file=sys.stderr)  # noqa: T201 - for people
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("chaos: stopped; everything that it started has ended", file=sys.stderr)  # noqa: T201 - for people
        raise typer.Exit(130) from None
    raise typer.Exit(0 if held else 1)


def _numbers(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            found += range(int(first), int(last or first) + 1)
        except ValueError:
            problem = f"--seeds takes numbers such as 7, 1-5 or 1,4,9; {part!r} is none"
            raise typer.BadParameter(problem) from None
    return found
