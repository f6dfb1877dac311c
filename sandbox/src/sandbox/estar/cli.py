"""`sandbox shop`: the twin of eStar on a port."""

from datetime import datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import httpx
import typer

from estarsync_core.errors import ConfigurationError
from estarsync_core.profile import load_profile
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.settings import read_profile
from sandbox.asgi import HOST
from sandbox.estar import profile_path
from sandbox.estar.copies import repeated_shop
from sandbox.estar.generate import DEFAULT_NOW, DEFAULT_SIZE, generate
from sandbox.estar.retail import load_shop
from sandbox.estar.server import serve_shop
from sandbox.estar.soap import Access, ShopSandbox
from sandbox.estar.state import Shop
from sandbox.estar.webhooks import Target

app = typer.Typer(no_args_is_help=True, help=__doc__)
_BAD_CONFIGURATION = 2


@app.callback()
def _group() -> None:
    """The twin of eStar: its SOAP API over a shop in memory."""


def shop_zone() -> ZoneInfo:
    """The time zone of the sandbox shop's profile."""
    path = profile_path()
    return load_profile(path.read_text(encoding="utf-8"), path.name).zone


@app.command()
def serve(
    *,
    host: Annotated[str, typer.Option(help="the address to listen on; 0.0.0.0 inside a container")] = HOST,
    port: Annotated[int, typer.Option(help="0 picks a free one", min=0, max=65535)] = 0,
    size: Annotated[int, typer.Option(help="customers in the generated shop", min=1)] = DEFAULT_SIZE,
    counts: Annotated[
        tuple[int, int, int] | None,
        typer.Option(help="customers, products and orders, at least, of a shop of any size in little memory"),
    ] = None,
    seed: Annotated[int, typer.Option(help="the same seed gives the same shop")] = 1,
    data: Annotated[
        Path | None, typer.Option(help="invoice lines (.csv or .csv.gz) instead of a generated shop")
    ] = None,
    returns: Annotated[bool, typer.Option("--returns", help="play the cancellations in --data")] = False,
    now: Annotated[datetime, typer.Option(help="the end of the generated shop's history")] = DEFAULT_NOW,
    username: Annotated[str, typer.Option(envvar="ESTAR_USERNAME")] = "sandbox",
    password: Annotated[str, typer.Option(envvar="ESTAR_PASSWORD", show_default=False)] = "sandbox",  # noqa: S107 - made up
    token_seconds: Annotated[float | None, typer.Option(help="life of a token", min=0)] = None,
    token_calls: Annotated[int | None, typer.Option(help="calls that a token is good for", min=0)] = None,
    profile: Annotated[
        Path | None,
        typer.Option(help="a tenant profile whose names the site goes by, instead of the published"),
    ] = None,
    webhook_url: Annotated[str | None, typer.Option(help="where to post notifications of edits")] = None,
    webhook_secret: Annotated[
        str | None, typer.Option(envvar="ESTAR_WEBHOOK_SECRET", help="the key that signs them")
    ] = None,
) -> None:
    """Serve a shop until interrupted."""
    if webhook_url and not webhook_secret:
        raise _refuse("--webhook-url needs a key to sign with: set ESTAR_WEBHOOK_SECRET")
    if returns and data is None:
        raise _refuse("--returns plays the cancellations of a file: give one with --data")
    if counts is not None and (data is not None or min(counts) < 1):
        raise _refuse("--counts takes three numbers of at least 1, and no --data beside them")
    try:
        shop = (
            repeated_shop(*counts, seed, shop_zone(), now)
            if counts
            else _shop(data, size, seed, now, returns=returns)
        )
        with httpx.Client(timeout=10) as client:
            target = Target(webhook_url, webhook_secret, client) if webhook_url and webhook_secret else None
            access = Access(username, password, token_seconds, token_calls)
            names = read_profile(profile) if profile else None
            sandbox = ShopSandbox(shop, SystemClock(), access, target, names)
            serve_shop(sandbox, port, lambda url: typer.echo(f"sandbox shop on {url}"), host)
    except ConfigurationError as error:
        raise _refuse(str(error)) from error


def _refuse(problem: str) -> typer.Exit:
    typer.echo(problem, err=True)
    return typer.Exit(_BAD_CONFIGURATION)


def _shop(data: Path | None, size: int, seed: int, now: datetime, *, returns: bool) -> Shop:
    zone = shop_zone()
    return generate(size, seed, zone, now) if data is None else load_shop(data, zone, returns=returns)
