"""The `sandbox` command."""

import typer

app = typer.Typer(no_args_is_help=True, help=__doc__)


def main() -> None:
    """Run it."""
    app()


if __name__ == "__main__":
    main()
