"""`python -m bench`: run the transformer's benchmark and write its page."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.contestants import PEERS
from bench.page import RESULTS, write_section
from bench.report import report
from bench.transformer import Bench
from estarsync_core.errors import ConfigurationError
from estarsync_runtime.clock import SystemClock
from sandbox.kafka import broker


def main(
    *,
    records: Annotated[int, typer.Option(help="Orders to read in each run.")] = 60_000,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each contestant.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the orders.")] = 1,
    peers: Annotated[bool, typer.Option(help="Measure other engines, too; they are installed.")] = True,
    seconds: Annotated[
        float, typer.Option(min=0, help="For so long, time records from raw to typed; 0: don't.")
    ] = 20.0,
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = RESULTS,
) -> None:
    """Measure on a real Kafka; takes minutes."""

    def say(line: str) -> None:
        typer.echo(line, err=True)

    try:
        with broker(say, real=True) as kafka:
            result = Bench(kafka.bootstrap, SystemClock(), say).run(
                records, rounds, seed, PEERS if peers else (), seconds
            )
            write_section(out, "Transformer", report(result, kafka.description, _command()))
    except ConfigurationError as error:
        for problem in error.problems:
            say(problem)
        sys.exit(2)
    say(f"written: {out}")


def _command() -> str:
    words = " ".join(sys.argv[1:])
    return f'make bench-transformer BENCH_ARGS="{words}"' if words else "make bench-transformer"


if __name__ == "__main__":
    typer.run(main)
