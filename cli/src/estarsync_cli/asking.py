"""Before anything is changed: what will happen, and a person's yes."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from estarsync_cli.output import notice
from estarsync_core.errors import ConfigurationError

Yes = Annotated[bool, typer.Option("--yes", help="Don't ask; needed where nobody sits at a terminal.")]


def agree(plan: Sequence[str], *, yes: bool) -> None:
    """Say what will happen, and go on only with a yes.

    The plan goes to stderr, so that `--json` keeps stdout to itself.

    Raises:
        ConfigurationError: there is no terminal to ask at, and no `--yes`.
        typer.Abort: the answer is no; nothing was done.
    """
    for line in plan:
        notice(line)
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError(["nothing was done: this changes something, so add --yes"])
    typer.confirm("Go on?", abort=True, err=True)
