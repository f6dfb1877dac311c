"""`sandbox demo`."""

import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from estarsync_core.errors import ConfigurationError, EstarsyncError
from estarsync_runtime.clock import SystemClock


def demo(
    *,
    data: Annotated[Path | None, typer.Option(help="An Online Retail CSV file (.csv or .csv.gz).")] = None,
    size: Annotated[int | None, typer.Option(help="Customers of a generated shop.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 1,
    limits: Annotated[
        Literal["generous", "basic"], typer.Option(envvar="LIMITS", help="Dotdigital's quota of calls.")
    ] = "generous",
    report: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("demo-report.json"),
    logs: Annotated[Path, typer.Option(help="Where the processes' logs go.")] = Path("demo-logs"),
) -> None:
    """Sync a shop through the three services, and prove that the shop and Dotdigital agree.

    Exit code 0 only where they agree; 2 where something that it needs is missing.
    """
    from sandbox.demo.run import Demo, Options  # noqa: PLC0415 - `sandbox --help` should not load Kafka

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    # A shell that starts us in the background has us ignore SIGINT.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupted)
    console = Console()
    try:
        agreed = Demo(Options(data, size, seed, limits, report, logs), SystemClock(), console).run()
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"demo: {problem}", file=sys.stderr)  # noqa: T201 - for people
        raise typer.Exit(2) from None
    except EstarsyncError as error:
        print(f"demo: {error}", file=sys.stderr)  # noqa: T201 - for people
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("demo: stopped; everything that it started has ended", file=sys.stderr)  # noqa: T201 - for people
        raise typer.Exit(130) from None
    raise typer.Exit(0 if agreed else 1)
