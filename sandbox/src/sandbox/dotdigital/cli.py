"""`sandbox dotdigital …`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from estarsync_core.errors import ConfigurationError
from estarsync_runtime.clock import SystemClock
from sandbox.asgi import HOST
from sandbox.dotdigital.options import PRESETS, Options
from sandbox.dotdigital.server import serve_dotdigital

app = typer.Typer(no_args_is_help=True, help="The sandbox Dotdigital.")
_EXIT_CONFIGURATION = 2
_DEFAULTS = Options()


class Preset(StrEnum):
    """How many calls are allowed."""

    BASIC = "basic"
    GENEROUS = "generous"


@app.callback()
def dotdigital() -> None:
    """A simulator of Dotdigital's API, with an account that begins empty."""


@app.command()
def serve(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 inside a container.")] = HOST,
    port: Annotated[int, typer.Option(help="0 picks a free one.", min=0, max=65535)] = 0,
    seed: Annotated[int, typer.Option(help="Of everything that is random.")] = 0,
    limits: Annotated[
        Preset, typer.Option(envvar="LIMITS", help="basic: 35, 150 and 600 calls a minute by tier.")
    ] = Preset.GENEROUS,
    import_seconds: Annotated[
        float, typer.Option(help="How long an import takes, beside its records.", min=0)
    ] = _DEFAULTS.import_seconds,
    username: Annotated[str, typer.Option(envvar="DOTDIGITAL_USERNAME")] = _DEFAULTS.username,
    password: Annotated[
        str, typer.Option(envvar="DOTDIGITAL_PASSWORD", show_default=False)
    ] = _DEFAULTS.password,
    ledger: Annotated[
        Path | None, typer.Option(help="Every line of the ledger goes here, as JSON lines.")
    ] = None,
) -> None:
    """Serve until it is stopped (SIGINT, SIGTERM)."""
    options = Options(
        username=username,
        password=password,
        limits=PRESETS[limits.value],
        import_seconds=import_seconds,
        ledger_path=ledger,
    )
    try:
        serve_dotdigital(
            options,
            SystemClock(),
            seed=seed,
            port=port,
            host=host,
            on_ready=lambda url: typer.echo(f"sandbox Dotdigital on {url}"),
        )
    except (ConfigurationError, OSError) as error:
        typer.echo(f"sandbox Dotdigital: {error}", err=True)
        raise typer.Exit(_EXIT_CONFIGURATION) from error
