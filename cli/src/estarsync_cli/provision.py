"""`estarsync provision`: make the account ready."""

from typing import Annotated

import typer

from estarsync_cli.connection import dotdigital
from estarsync_cli.output import Json, console, print_json
from estarsync_runtime.dotdigital import provisioning
from estarsync_runtime.dotdigital.connect import DotdigitalSettings
from estarsync_runtime.settings import load


def provision(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be created.")] = False,
    as_json: Json = False,
) -> None:
    """Create the data fields, the list and the collections that are missing in Dotdigital.

    Running it again changes nothing. The loader does the same when it starts.
    """
    settings = load(DotdigitalSettings)
    client = dotdigital(settings)
    steps = provisioning.inspect(client, settings).steps(settings)
    if not dry_run:
        provisioning.provision(client, settings)
    if as_json:
        print_json({"dry_run": dry_run, "steps": steps})
        return
    for step in steps:
        console().print(f"would {step}" if dry_run else f"did {step}")
    if not steps:
        console().print("nothing to do: everything is there")
