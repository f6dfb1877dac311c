"""The `sandbox` command."""

import typer

from sandbox.chaos.cli import chaos
from sandbox.demo.cli import demo
from sandbox.dotdigital.cli import app as dotdigital
from sandbox.estar.cli import app as shop
from sandbox.kafka.cli import app as kafka

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False, add_completion=False)
app.add_typer(dotdigital, name="dotdigital")
app.add_typer(kafka, name="kafka")
app.add_typer(shop, name="shop")
app.command("chaos")(chaos)
app.command("demo")(demo)


def main() -> None:
    """Run it."""
    app()


if __name__ == "__main__":
    main()
